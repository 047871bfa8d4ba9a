//! Taking in a request's body within bounds of size, memory and time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use bursar_schemas::facts::RefusalCode;

use crate::refusal::Refused;
use crate::world::World;

/// Memory that a body takes, given back when dropped.
pub(crate) struct Buffered {
    world: Arc<World>,
    bytes: usize,
}

impl Buffered {
    /// Takes so many bytes more; false when all requests together would hold too much.
    fn take(&mut self, bytes: usize) -> bool {
        let before = self.world.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before.saturating_add(bytes) <= self.world.config.max_buffered_bytes
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.world.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn too_large(bound: usize) -> Refused {
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::TooLarge,
        format!("The body is larger than {bound} bytes."),
    )
}

/// Reads the whole body. One that came in one piece is not copied.
pub(crate) async fn read(
    world: &Arc<World>,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<(Bytes, Buffered), Refused> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|encoding| encoding == "identity");
    if !plain {
        return Err(Refused::invalid("The body must not be compressed."));
    }
    let mut buffered = Buffered { world: Arc::clone(world), bytes: 0 };
    let reading = collect(world.config.max_body_bytes, incoming, &mut buffered);
    match tokio::time::timeout(world.config.body_timeout, reading).await {
        Ok(body) => Ok((body?, buffered)),
        Err(_) => Err(Refused::invalid("The body did not arrive in time.")),
    }
}

async fn collect(bound: usize, mut incoming: Incoming, buffered: &mut Buffered) -> Result<Bytes, Refused> {
    let announced = incoming.size_hint().lower();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > bound {
        return Err(too_large(bound));
    }
    let crowded = || Refused::unavailable(RefusalCode::Overloaded, "Too many bodies are held at the moment.");
    let mut first: Option<Bytes> = None;
    let mut joined: Option<BytesMut> = None;
    let mut length = 0;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Refused::invalid("The body broke off."))?;
        let Ok(piece) = frame.into_data() else { continue };
        length += piece.len();
        if length > bound {
            return Err(too_large(bound));
        }
        if !buffered.take(piece.len()) {
            return Err(crowded());
        }
        match (&mut joined, &first) {
            (Some(joined), _) => joined.extend_from_slice(&piece),
            (None, None) => first = Some(piece),
            (None, Some(begun)) => {
                let mut whole = BytesMut::with_capacity(announced.max(length));
                whole.extend_from_slice(begun);
                whole.extend_from_slice(&piece);
                joined = Some(whole);
            }
        }
    }
    Ok(joined.map_or_else(|| first.unwrap_or_default(), BytesMut::freeze))
}
