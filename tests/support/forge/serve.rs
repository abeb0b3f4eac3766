//! The forge's server: TLS connections, counted, and what is answered on
//! them, good or bad.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use futures_util::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::super::counted::Counted;
use super::cgi::backend;
use super::{Counters, Fault, Shared};

pub(super) async fn listen(
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<tokio_rustls::rustls::ServerConfig>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut fault = shared.fault.subscribe();
    // Dropped with this future: nothing outlives the forge.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if *fault.borrow_and_update() == Fault::Refused {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = fault.changed() => {}
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => if let Ok((tcp, _)) = accepted {
                let (tls, shared) = (tls.clone(), shared.clone());
                connections.spawn(async move {
                    let mut generation = shared.generation.subscribe();
                    tokio::select! {
                        _ = generation.changed() => {}
                        _ = connection(tcp, tls, shared.clone()) => {}
                    }
                });
            }
        }
    }
}

async fn connection(
    mut tcp: TcpStream,
    tls: Arc<tokio_rustls::rustls::ServerConfig>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    shared.counters.connections.fetch_add(1, Ordering::SeqCst);
    if *shared.fault.borrow() == Fault::Reset {
        // Closing with unread data is what makes the kernel send a reset.
        tcp.read_u8().await?;
        return Ok(());
    }
    tcp.set_nodelay(true)?;
    let stream = tokio_rustls::TlsAcceptor::from(tls).accept(tcp).await?;
    let Counters { received, sent, .. } = &shared.counters;
    let counted = Counted { inner: stream, received: received.clone(), sent: sent.clone() };
    let service = hyper::service::service_fn(|request| answer(request, shared.clone()));
    // The service fails to have the connection dropped.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(counted), service)
        .await;
    Ok(())
}

type Body = BoxBody<Bytes, io::Error>;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let fault = shared.fault.borrow().clone();
    shared.counters.requests.fetch_add(1, Ordering::SeqCst);
    shared.moments.lock().unwrap().asked.get_or_insert_with(SystemTime::now);
    let authorization = request.headers().get("authorization").cloned();
    if authorization.is_some() {
        shared.counters.authorized.fetch_add(1, Ordering::SeqCst);
    }
    match &fault {
        Fault::Status(status) => {
            let status = StatusCode::from_u16(*status).unwrap();
            return Ok(page(status, &format!("<h1>{status}</h1>")));
        }
        Fault::Html => return Ok(page(StatusCode::OK, "<h1>Welcome</h1>")),
        Fault::Says(words) => return Ok(says(request.method(), words)),
        Fault::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Hang => return hold(&shared).await,
        Fault::Redirect(to) => {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let mut redirect = page(StatusCode::FOUND, "elsewhere");
            redirect.headers_mut().insert("location", format!("{to}{path}").parse().unwrap());
            return Ok(redirect);
        }
        Fault::None
        | Fault::Drip
        | Fault::Refused
        | Fault::TruncatedPack
        | Fault::CorruptedPack
        | Fault::CutPack
        | Fault::HangInPack
        | Fault::EndlessRefs => {}
    }
    let allowed = authorization.is_some_and(|header| {
        let decoded = header
            .to_str()
            .ok()
            .and_then(|h| h.strip_prefix("Basic "))
            .and_then(|h| base64::engine::general_purpose::STANDARD.decode(h).ok())
            .and_then(|h| String::from_utf8(h).ok());
        decoded
            .as_deref()
            .and_then(|d| d.split_once(':'))
            .is_some_and(|(_, token)| shared.tokens.lock().unwrap().contains(token))
    });
    if !allowed {
        let mut refusal = page(StatusCode::UNAUTHORIZED, "who are you?");
        refusal.headers_mut().insert("www-authenticate", "Basic realm=\"forge\"".parse().unwrap());
        return Ok(refusal);
    }
    let (head, body) = backend(request, &shared.projects, shared.answers.get()).await?;
    note(&body, &shared);
    misbehave(head, body, &fault, &shared)
}

fn note(body: &[u8], shared: &Shared) {
    let mut moments = shared.moments.lock().unwrap();
    let length = moments.text.len();
    if moments.told.is_none() && length > 0 && body.windows(length).any(|w| w == moments.text) {
        moments.told = Some(SystemTime::now());
    }
}

/// Changes the backend's answer as the fault has it.
fn misbehave(
    head: hyper::http::response::Builder,
    mut body: Vec<u8>,
    fault: &Fault,
    shared: &Arc<Shared>,
) -> io::Result<Response<Body>> {
    let has_pack = body.windows(5).any(|w| w == b"\x01PACK");
    let half = body.len() / 2;
    let then = |rest: Rest| {
        let first = futures_util::stream::iter([Ok(Bytes::from(body[..half].to_vec()))]);
        let shared = shared.clone();
        let last = futures_util::stream::once(async move {
            match rest {
                Rest::Cut => Err(io::ErrorKind::ConnectionReset.into()),
                Rest::Hang => hold(&shared).await,
            }
        });
        let frames = first.chain(last).map(|r: io::Result<Bytes>| r.map(Frame::data));
        BoxBody::new(StreamBody::new(frames))
    };
    let body = match fault {
        Fault::Drip => {
            let bytes = futures_util::stream::iter(body.into_iter().enumerate());
            let slow = bytes.then(|(i, byte)| async move {
                if i > 0 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(Frame::data(Bytes::from(vec![byte])))
            });
            BoxBody::new(StreamBody::new(slow))
        }
        Fault::CutPack if has_pack => then(Rest::Cut),
        Fault::HangInPack if has_pack => then(Rest::Hang),
        Fault::TruncatedPack if has_pack => full(truncated(&body)),
        Fault::EndlessRefs if body.windows(16).any(|it| it == b" refs/heads/main") => {
            let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = Bytes::from([line, b"\n"].concat());
            BoxBody::new(StreamBody::new(futures_util::stream::repeat_with(move || {
                Ok(Frame::data(line.clone()))
            })))
        }
        Fault::CorruptedPack if has_pack => {
            let middle = packets(&body).max_by_key(ExactSizeIterator::len).unwrap();
            body[middle.start + middle.len() / 2] ^= 0x55;
            full(body)
        }
        _ => full(body),
    };
    Ok(head.body(body).unwrap())
}

enum Rest {
    Cut,
    Hang,
}

/// The ranges of the packet lines that carry a pack.
fn packets(body: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let digits = std::str::from_utf8(body.get(at..at + 4)?).ok()?;
        let length = usize::from_str_radix(digits, 16).ok()?.max(4);
        at += length;
        Some(at - length..at)
    })
    .filter(|range| body.get(range.start + 4) == Some(&1))
}

/// Ends the pack half-way through its largest packet, then flushes.
fn truncated(body: &[u8]) -> Vec<u8> {
    let last = packets(body).max_by_key(ExactSizeIterator::len).unwrap();
    let keep = last.len() / 2;
    let mut cut = body[..last.start].to_vec();
    cut.extend_from_slice(format!("{keep:04x}").as_bytes());
    cut.extend_from_slice(&body[last.start + 4..last.start + keep]);
    cut.extend_from_slice(b"0000");
    cut
}

async fn hold<T>(shared: &Arc<Shared>) -> io::Result<T> {
    shared.counters.held.fetch_add(1, Ordering::SeqCst);
    std::future::pending().await
}

/// As gitprotocol-http(5) and gitprotocol-pack(5) have it.
fn says(method: &Method, words: &str) -> Response<Body> {
    let line = format!("{:04x}ERR {words}", words.len() + 8);
    let (kind, body) = match *method {
        Method::GET => ("advertisement", format!("001e# service=git-upload-pack\n0000{line}")),
        _ => ("result", line),
    };
    let answer =
        Response::builder().header("content-type", format!("application/x-git-upload-pack-{kind}"));
    answer.body(full(body)).unwrap()
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn page(status: StatusCode, text: &str) -> Response<Body> {
    let page =
        Response::builder().status(status).header("content-type", "text/html; charset=utf-8");
    page.body(full(text.to_owned())).unwrap()
}
