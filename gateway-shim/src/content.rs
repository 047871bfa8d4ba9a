//! Captured content, where policy and configuration ask for it: what a client asked and what was answered, handed over
//! once, at the request's end. This crate neither stores nor logs it.

use std::sync::Arc;

use bytes::Bytes;

use bursar_schemas::facts::About;

use crate::gate::Admitted;
use crate::world::World;

/// A request's content at its end. Never printed.
pub struct Content {
    /// The request's attributes.
    pub about: Arc<About>,
    /// The policy version in force.
    pub policy: u64,
    /// The body as the client sent it.
    pub prompt: Vec<u8>,
    /// The answer's body as the provider sent it.
    pub completion: Vec<u8>,
    /// True when a part was longer than the bound and was cut off.
    pub cut: bool,
}

/// Where contents go.
pub trait ContentSink: Send + Sync {
    /// Takes a content or drops it, at once: it is called on the way of an answer.
    fn offer(&self, content: Content);
}

/// Whether contents are captured, and how much of each.
#[derive(Clone)]
pub struct Capturing {
    /// Where they go.
    pub sink: Arc<dyn ContentSink>,
    /// Bytes of a prompt or a completion; what is longer is cut off.
    pub most_bytes: usize,
}

/// The content of an open request so far.
pub(crate) struct Capture {
    capturing: Capturing,
    prompt: Bytes,
    completion: Vec<u8>,
    cut: bool,
}

impl Capture {
    /// Begins where configuration has a place for contents and policy names the team.
    pub(crate) fn begin(world: &World, admitted: &Admitted) -> Option<Self> {
        let capturing = world.config.capture.as_ref()?;
        let team = admitted.about.team.as_deref();
        let wanted = admitted.policy.directory.document().content.captures(team);
        wanted.then(|| Self {
            capturing: capturing.clone(),
            prompt: admitted.body.clone(),
            completion: Vec::new(),
            cut: false,
        })
    }

    /// Takes what the provider sent.
    pub(crate) fn see(&mut self, piece: &[u8]) {
        let room = self.capturing.most_bytes.saturating_sub(self.completion.len());
        self.cut |= piece.len() > room;
        self.completion.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// Hands it over.
    pub(crate) fn end(self, about: &Arc<About>, policy: u64) {
        let most = self.capturing.most_bytes;
        let prompt = self.prompt[..self.prompt.len().min(most)].to_vec();
        let cut = self.cut || self.prompt.len() > most;
        let content = Content { about: Arc::clone(about), policy, prompt, completion: self.completion, cut };
        self.capturing.sink.offer(content);
    }
}
