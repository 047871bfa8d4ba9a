//! What leaves towards the client: a ready answer, or a provider's answer as it comes, which reports its end
//! exactly once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Sleep;

use bursar_schemas::facts::{AttemptOutcome, Ending};

use crate::open::OpenRequest;
use crate::scan::{JsonScan, Learned, Scan};

/// The answer of a provider broke off or paused for too long.
#[derive(Debug, thiserror::Error)]
#[error("the provider's answer broke off")]
pub(crate) struct BrokenOff;

/// A body towards the client.
pub(crate) enum Outgoing {
    /// All of it is there.
    Full(Option<Bytes>),
    /// It comes from a provider.
    Passing(Box<Passing>),
}

impl Outgoing {
    pub(crate) const fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }
}

/// A provider's answer on its way.
pub(crate) struct Passing {
    /// None once the client has left and the rest is read without it.
    incoming: Option<Incoming>,
    scan: Scan,
    leaving: VecDeque<Bytes>,
    scratch: Vec<Bytes>,
    open: Option<OpenRequest>,
    /// Set once the provider's side is over: `true` when it broke off.
    over: Option<bool>,
    pause: Option<Pin<Box<Sleep>>>,
    progress: Instant,
}

impl Passing {
    pub(crate) fn new(incoming: Incoming, scan: Scan, open: OpenRequest) -> Self {
        let over = incoming.is_end_stream();
        let mut passing = Self {
            incoming: Some(incoming),
            scan,
            leaving: VecDeque::new(),
            scratch: Vec::new(),
            open: Some(open),
            over: None,
            pause: None,
            progress: Instant::now(),
        };
        if over {
            passing.end(false);
        }
        passing
    }

    /// The provider's side is over.
    fn end(&mut self, broken: bool) {
        self.over = Some(broken);
        self.scan.finish(&mut self.scratch);
        self.queue();
        if let Some(mut open) = self.open.take() {
            // What is queued is handed to the connection by the next calls.
            let queued: usize = self.leaving.iter().map(Bytes::len).sum();
            open.answer_bytes = open.answer_bytes.saturating_add(u64::try_from(queued).unwrap_or(0));
            if queued > 0 {
                let started = open.started;
                open.first_byte.get_or_insert_with(|| started.elapsed());
            }
            let learned = std::mem::take(self.scan.learned());
            let (ending, outcome) = match (broken, open.status >= 400) {
                (_, true) => (Ending::Failed, AttemptOutcome::Rejected),
                (true, false) => (Ending::Failed, AttemptOutcome::Broken),
                (false, false) => (Ending::Finished, AttemptOutcome::Answered),
            };
            open.close(ending, outcome, &learned, Vec::new());
        }
    }

    fn queue(&mut self) {
        self.leaving.extend(self.scratch.drain(..).filter(|piece| !piece.is_empty()));
    }

    fn take(&mut self, piece: Bytes) {
        self.progress = Instant::now();
        if let Some(open) = &mut self.open
            && let Some(attempt) = &mut open.attempt
        {
            let started = attempt.started;
            attempt.first_byte.get_or_insert_with(|| started.elapsed());
            attempt.answer_bytes =
                attempt.answer_bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
        }
        if let Some(capture) = self.open.as_mut().and_then(|open| open.capture.as_mut()) {
            capture.see(&piece);
        }
        self.scan.push(piece, &mut self.scratch);
        self.queue();
    }

    fn give(&mut self, piece: Bytes) -> Frame<Bytes> {
        if let Some(open) = &mut self.open {
            let started = open.started;
            open.first_byte.get_or_insert_with(|| started.elapsed());
            open.answer_bytes = open.answer_bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
        }
        Frame::data(piece)
    }

    /// True when the provider has paused for longer than it may.
    fn paused_too_long(&mut self, context: &mut Context<'_>) -> bool {
        let Some(open) = &self.open else { return false };
        let deadline = tokio::time::Instant::from_std(self.progress + open.world.config.idle_timeout);
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while pause.as_mut().poll(context).is_ready() {
            if tokio::time::Instant::now() >= deadline {
                return true;
            }
            pause.as_mut().reset(deadline);
        }
        false
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            // The end is told before the last piece leaves, since a connection that has sent as much as was
            // announced does not ask for more.
            if self.over.is_none() && self.incoming.as_ref().is_none_or(Incoming::is_end_stream) {
                self.end(false);
            }
            if let Some(piece) = self.leaving.pop_front() {
                return Poll::Ready(Some(Ok(self.give(piece))));
            }
            match self.over {
                Some(false) => return Poll::Ready(None),
                Some(true) => {
                    self.over = Some(false);
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                None => {}
            }
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        self.take(piece);
                    }
                }
                Poll::Ready(Some(Err(_))) => self.end(true),
                Poll::Ready(None) => self.end(false),
                Poll::Pending => {
                    if !self.paused_too_long(context) {
                        return Poll::Pending;
                    }
                    self.end(true);
                }
            }
        }
    }
}

impl Drop for Passing {
    /// The client left, or its connection broke. The answer is paid for all the same, so it is read on without
    /// the client for as long as configured, to learn what it cost; else the provider's connection falls here.
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let learned: Learned = std::mem::take(self.scan.learned());
        if open.status >= 400 {
            open.close(Ending::Abandoned, AttemptOutcome::Rejected, &learned, Vec::new());
        } else if learned.done && self.leaving.is_empty() {
            open.close(Ending::Finished, AttemptOutcome::Answered, &learned, Vec::new());
        } else if let Some(incoming) = self.incoming.take()
            && !learned.done
            && !open.world.config.read_on.is_zero()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            *self.scan.learned() = learned;
            let scan = std::mem::replace(&mut self.scan, Scan::Json(JsonScan::default()));
            let world = std::sync::Arc::clone(&open.world);
            world.read_on(&runtime, read_on(incoming, scan, open));
        } else {
            open.close(Ending::Abandoned, AttemptOutcome::Abandoned, &learned, Vec::new());
        }
    }
}

/// Reads what the client no longer wants, within a time, and then closes the request. Dropping this closes it, too.
async fn read_on(mut incoming: Incoming, mut scan: Scan, mut open: OpenRequest) {
    let deadline = tokio::time::Instant::now() + open.world.config.read_on;
    let mut unwanted = Vec::new();
    // The end, an error and the deadline all end the reading; what was learned until then decides the charge.
    while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(deadline, incoming.frame()).await {
        if let Ok(piece) = frame.into_data() {
            if let Some(attempt) = &mut open.attempt {
                attempt.answer_bytes =
                    attempt.answer_bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
            }
            if let Some(capture) = &mut open.capture {
                capture.see(&piece);
            }
            scan.push(piece, &mut unwanted);
            unwanted.clear();
        }
    }
    scan.finish(&mut unwanted);
    let learned = std::mem::take(scan.learned());
    open.close(Ending::Abandoned, AttemptOutcome::Abandoned, &learned, Vec::new());
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passing) => Poll::Ready(ready!(passing.poll(context))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Passing(passing) => passing.over == Some(false) && passing.leaving.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(0))
            }
            Self::Passing(passing) if passing.over == Some(false) && passing.leaving.is_empty() => {
                SizeHint::with_exact(0)
            }
            Self::Passing(_) => SizeHint::default(),
        }
    }
}
