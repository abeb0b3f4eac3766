//! The body of an upload: what the store knows of the path if that is too long
//! for a header, then the packed path, as it is read; its last byte when the
//! gate is open.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::gate::Gate;
use fort_nix::nar::Packed;

/// How far a body has come.
#[derive(Default)]
pub(super) struct Way {
    frames: AtomicU64,
    over: AtomicBool,
}

impl Way {
    /// Returns when nothing was taken for `limit`, or all was and no answer
    /// came within `answer`; with the limit that it was.
    pub(super) async fn stalled(&self, limit: Duration, answer: Duration) -> Duration {
        loop {
            let frames = self.frames.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            if self.over.load(Ordering::Relaxed) {
                tokio::time::sleep(answer.saturating_sub(limit)).await;
                return answer;
            }
            if self.frames.load(Ordering::Relaxed) == frames {
                return limit;
            }
        }
    }
}

pub(super) struct Body {
    preamble: Option<Bytes>,
    packed: Packed,
    left: u64,
    way: Arc<Way>,
    gate: Arc<Gate>,
    /// The last byte, while the gate is closed.
    held: Option<Bytes>,
}

impl Body {
    pub(super) fn new(preamble: Vec<u8>, packed: Packed, way: Arc<Way>, gate: Arc<Gate>) -> Self {
        let left = packed.size() + preamble.len() as u64;
        let preamble = Some(Bytes::from(preamble)).filter(|bytes| !bytes.is_empty());
        Self { preamble, packed, left, way, gate, held: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        let next = match this.preamble.take().or_else(|| this.held.take()) {
            Some(ready) => Some(ready),
            None => ready!(this.packed.poll_next(cx)),
        };
        let Some(mut bytes) = next else {
            // The connection is broken off, and the server keeps nothing.
            let early = || std::io::Error::other("the path could not be packed");
            return Poll::Ready((this.left > 0).then(|| Err(early())));
        };
        if bytes.len() as u64 == this.left && this.gate.poll_open(cx).is_pending() {
            this.held = Some(bytes.split_off(bytes.len() - 1));
            if bytes.is_empty() {
                return Poll::Pending;
            }
        }
        this.left = this.left.saturating_sub(bytes.len() as u64);
        this.way.frames.fetch_add(1, Ordering::Relaxed);
        this.way.over.store(this.left == 0, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
