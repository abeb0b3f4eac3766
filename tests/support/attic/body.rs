//! Bodies that come and go, piece by piece, and what a fault does to them.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::Response;
use hyper::body::{Bytes, Frame};

use super::Shared;
use super::fault::Fault;
use super::refusal::{Body, Refusal};

/// Why a body does not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client broke the upload off.
    Client,
    /// A fault of the server's broke the upload off.
    Fault(Refusal),
}

/// Body of a request as it comes in.
pub(super) struct Incoming<'a> {
    body: hyper::body::Incoming,
    shared: &'a Arc<Shared>,
    fault: &'a Fault,
    ahead: Bytes,
    /// How much was read so far.
    pub(super) came: u64,
    /// Where half of an upload is.
    half: Option<u64>,
    /// Index of the upload in the log.
    pub(super) place: Option<usize>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(
        body: hyper::body::Incoming,
        shared: &'a Arc<Shared>,
        fault: &'a Fault,
    ) -> Self {
        Self { body, shared, fault, ahead: Bytes::new(), came: 0, half: None, place: None }
    }

    /// From here on an upload of this length comes.
    pub(super) fn upload_of(&mut self, length: u64) {
        self.half = Some(self.came - self.ahead.len() as u64 + length / 2);
    }

    /// The next piece, if there is one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let piece = match std::mem::take(&mut self.ahead) {
            ahead if !ahead.is_empty() => ahead,
            _ => match self.frame().await? {
                Some(piece) => piece,
                None => return Ok(None),
            },
        };
        if self.half.is_some_and(|half| self.came >= half) {
            self.half_way().await?;
        }
        Ok(Some(piece))
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Broken> {
        while let Some(frame) = self.body.frame().await {
            let Ok(piece) = frame.map_err(|_| Broken::Client)?.into_data() else { continue };
            self.came += piece.len() as u64;
            if let Some(place) = self.place {
                self.shared.seen.upload_receives(place, self.came);
            }
            match self.fault {
                Fault::ProxyBody(limit) if self.came > *limit => {
                    return Err(Broken::Fault(too_large()));
                }
                Fault::Slow(rate) => tokio::time::sleep(time_for(piece.len(), *rate)).await,
                _ => {}
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }

    async fn half_way(&mut self) -> Result<(), Broken> {
        match self.fault {
            Fault::CutUpload => Err(Broken::Fault(Refusal::Cut)),
            Fault::FullDisk => Err(Broken::Fault(Refusal::internal())),
            Fault::StallUpload => hold(self.shared).await,
            _ => Ok(()),
        }
    }

    /// The first so many bytes, or fewer if that is all.
    pub(super) async fn first(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        let mut first = Vec::new();
        while first.len() < length
            && let Some(mut piece) = self.next().await?
        {
            let rest = piece.split_off(piece.len().min(length - first.len()));
            first.extend_from_slice(&piece);
            self.ahead = rest;
        }
        Ok(first)
    }
}

/// Returns nginx's refusal of a body beyond its limit.
pub(super) fn too_large() -> Refusal {
    Refusal::Page(413, "413 Request Entity Too Large")
}

/// How long so many bytes take.
#[allow(clippy::cast_precision_loss, reason = "bodies of less than petabytes")]
fn time_for(bytes: usize, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

/// For ever, and counted.
pub(super) async fn hold<T>(shared: &Arc<Shared>) -> T {
    shared.seen.held.fetch_add(1, Ordering::SeqCst);
    std::future::pending().await
}

/// A file, as long as it is.
pub(super) fn of_file(file: File) -> Body {
    const PIECE: usize = 256 * 1024;
    let pieces = futures_util::stream::unfold(file, |mut file| async {
        let mut piece = Vec::with_capacity(PIECE);
        match (&mut file).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some((Ok(Frame::data(Bytes::from(piece))), file)),
            Err(failed) => Some((Err(failed), file)),
        }
    });
    BoxBody::new(StreamBody::new(pieces))
}

/// An answer as the fault has it.
pub(super) async fn misbehave(
    answer: Response<Body>,
    fault: &Fault,
    shared: &Arc<Shared>,
) -> io::Result<Response<Body>> {
    match fault {
        Fault::Slow(rate) => {
            let rate = *rate;
            Ok(answer.map(|body| {
                let slow = BodyStream::new(body).then(move |frame| async move {
                    let length =
                        frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                    tokio::time::sleep(time_for(length, rate)).await;
                    frame
                });
                BoxBody::new(StreamBody::new(slow))
            }))
        }
        Fault::Truncated => {
            let (mut head, body) = answer.into_parts();
            let whole = body.collect().await?.to_bytes();
            head.headers.remove("content-length");
            Ok(Response::from_parts(head, super::refusal::full(whole.slice(..whole.len() / 2))))
        }
        Fault::CutAnswer | Fault::StallAnswer => {
            let (mut head, body) = answer.into_parts();
            let whole = body.collect().await?.to_bytes();
            head.headers.insert("content-length", whole.len().into());
            let half = whole.slice(..whole.len() / 2);
            let first = futures_util::stream::iter([Ok(Frame::data(half))]);
            let (shared, cut) = (shared.clone(), *fault == Fault::CutAnswer);
            let rest = futures_util::stream::once(async move {
                // So that the first half leaves before.
                tokio::task::yield_now().await;
                if cut { Err(io::ErrorKind::ConnectionReset.into()) } else { hold(&shared).await }
            });
            Ok(Response::from_parts(head, BoxBody::new(StreamBody::new(first.chain(rest)))))
        }
        _ => Ok(answer),
    }
}
