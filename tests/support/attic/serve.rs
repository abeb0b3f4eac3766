//! Connections, each on a thread of its own, and which part answers what.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::super::counted::Counted;
use super::body::{hold, misbehave, too_large};
use super::fault::Fault;
use super::refusal::{Body, Refusal, full};
use super::seen::Kind;
use super::token::Claims;
use super::{Asked, Phase, Shared, Tls};
use super::{api, plain, substituter, upload};

/// Accepts until it is over; then everything that it started has ended.
pub(super) fn listen(
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<&Tls>,
    shared: &Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut connections: Vec<std::thread::JoinHandle<()>> = Vec::new();
    let mut life = shared.life.subscribe();
    run(async {
        let mut accepting = listener.take().map(|l| TcpListener::from_std(l).unwrap());
        loop {
            let now = life.borrow_and_update().clone();
            match now.phase {
                Phase::Over => break,
                Phase::Refusing => accepting = None,
                Phase::Listening if accepting.is_some() => {}
                Phase::Listening => accepting = Some(TcpListener::bind(address).await.unwrap()),
            }
            let accepted = async {
                match &accepting {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = life.changed() => changed.unwrap(),
                accepted = accepted => if let Ok((tcp, _)) = accepted {
                    let (tls, shared) = (tls.cloned(), shared.clone());
                    let tcp = tcp.into_std().unwrap();
                    connections.retain(|thread| !thread.is_finished());
                    // As it is now: all may have been dropped since the loop looked.
                    let now = shared.life.borrow().clone();
                    if now.phase != Phase::Listening {
                        continue;
                    }
                    connections.push(std::thread::spawn(move || {
                        let mut life = shared.life.subscribe();
                        run(async {
                            tokio::select! {
                                // What is answered still leaves.
                                biased;
                                _ = connection(tcp, tls, &shared) => {}
                                _ = life.wait_for(|l| l.generation != now.generation) => {}
                            }
                        });
                    }));
                }
            }
        }
    });
    for thread in connections {
        let _ = thread.join();
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

async fn connection(
    tcp: std::net::TcpStream,
    tls: Option<Tls>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    shared.seen.connections.fetch_add(1, Ordering::SeqCst);
    let tcp = TcpStream::from_std(tcp)?;
    tcp.set_nodelay(true)?;
    match tls {
        None => serve(tcp, shared).await,
        Some(tls) => serve(tokio_rustls::TlsAcceptor::from(tls).accept(tcp).await?, shared).await,
    }
    Ok(())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared>) {
    let (received, sent) = (shared.seen.received.clone(), shared.seen.sent.clone());
    let counted = Counted { inner: stream, received, sent };
    let service = hyper::service::service_fn(|request| answer(request, shared));
    // The service fails to have the connection dropped.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(counted), service)
        .await;
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let kind = kind(&head.method, &segments);
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    shared.seen.request(kind, authorization);
    let fault = shared.plan.lock().unwrap().take(kind);
    if let Some(answer) = instead(&head, &fault, shared).await {
        return answer;
    }
    let claims = authorization
        .filter(|_| fault != Fault::ExpiredTokens)
        .and_then(|header| Claims::of_header(header, &shared.secret));
    let asked = Asked { shared, claims, fault };
    match route(kind, &head, body, &segments, &asked).await {
        Ok(answer) => misbehave(answer, &asked.fault, shared).await,
        Err(refusal) => misbehave(refusal.answer()?, &asked.fault, shared).await,
    }
}

/// Answers as a fault has it, without a look at the request; `None` if the fault does not apply.
async fn instead(
    head: &Parts,
    fault: &Fault,
    shared: &Arc<Shared>,
) -> Option<io::Result<Response<Body>>> {
    let refusal = match fault {
        Fault::Status(status) => Refusal::status(*status),
        Fault::Hang => hold(shared).await,
        Fault::WebServer => Refusal::Page(200, "Welcome to nginx!"),
        Fault::NotFoundPages => Refusal::Page(404, "404 Not Found"),
        Fault::ProxyHeader(limit) => {
            let lines = head.headers.iter();
            let longest = lines.map(|(name, value)| name.as_str().len() + value.len() + 4).max();
            if longest <= Some(*limit) {
                return None;
            }
            Refusal::Page(400, "400 Request Header Or Cookie Too Large")
        }
        // As long as it says how long it is; else it is read so far.
        Fault::ProxyBody(limit) => {
            let length = head.headers.get("content-length").and_then(|l| l.to_str().ok());
            if length.and_then(|l| l.parse::<u64>().ok()) <= Some(*limit) {
                return None;
            }
            too_large()
        }
        Fault::Redirect(to) => {
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            let redirect =
                Response::builder().status(307).header("location", format!("{to}{path}"));
            return Some(Ok(redirect.body(full("")).unwrap()));
        }
        Fault::None
        | Fault::Slow(_)
        | Fault::AwaitsFollower { .. }
        | Fault::NoProof
        | Fault::CutUpload
        | Fault::CutAnswer
        | Fault::StallUpload
        | Fault::StallAnswer
        | Fault::FullDisk
        | Fault::ExpiredTokens
        | Fault::Elsewhere(_)
        | Fault::Truncated
        | Fault::Refused => return None,
    };
    Some(refusal.answer())
}

fn kind(method: &Method, segments: &[&str]) -> Kind {
    match segments {
        [""] => Kind::Front,
        ["_api", "v1", "cache-config", _] if method == Method::POST => Kind::CreateCache,
        ["_api", "v1", "cache-config", _] if method == Method::PATCH => Kind::ChangeCache,
        ["_api", "v1", "cache-config", _] if method == Method::DELETE => Kind::ChangeCache,
        ["_api", "v1", "cache-config", _] | [_, "attic-cache-info"] => Kind::CacheConfig,
        ["_api", "v1", "get-missing-paths"] => Kind::GetMissing,
        ["_api", "v1", "upload-path"] => Kind::Upload,
        ["_plain", ..] => Kind::Plain,
        [_, "nix-cache-info"] => Kind::CacheInfo,
        [_, "nar", _] => Kind::Nar,
        [_, _] => Kind::NarInfo,
        _ => Kind::Other,
    }
}

async fn route(
    kind: Kind,
    head: &Parts,
    body: Incoming,
    segments: &[&str],
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let allowed = match kind {
        Kind::CacheConfig if segments.len() == 2 => "GET,HEAD",
        Kind::CacheConfig | Kind::ChangeCache => "GET,HEAD,POST,PATCH,DELETE",
        Kind::Front | Kind::CacheInfo | Kind::NarInfo | Kind::Nar => "GET,HEAD",
        Kind::CreateCache | Kind::GetMissing => "POST",
        Kind::Upload => "PUT",
        Kind::Plain => "GET,HEAD,PUT",
        Kind::Other => return Err(Refusal::not_found()),
    };
    if !allowed.split(',').any(|method| head.method == method) {
        return Err(Refusal::Method(allowed));
    }
    match (kind, segments) {
        (Kind::Front, _) => Ok(front()),
        (Kind::CacheConfig, [name, "attic-cache-info"]) => api::cache_config(head, name, asked),
        (Kind::ChangeCache, [.., name]) if head.method == Method::DELETE => {
            api::remove_cache(name, asked)
        }
        (Kind::ChangeCache, [.., name]) => api::change_cache(head, body, name, asked).await,
        (Kind::CacheConfig, [.., name]) => api::cache_config(head, name, asked),
        (Kind::CreateCache, [.., name]) => api::create_cache(head, body, name, asked).await,
        (Kind::GetMissing, _) => api::get_missing(head, body, asked).await,
        (Kind::Upload, _) => upload::upload(head, body, asked).await,
        (Kind::CacheInfo, [name, _]) => substituter::cache_info(name, asked),
        (Kind::NarInfo, [name, file]) => substituter::narinfo(name, file, asked),
        (Kind::Nar, [name, _, file]) => substituter::nar(name, file, asked),
        (Kind::Plain, [_, file @ ..]) => plain::plain(head, body, file, asked).await,
        _ => Err(Refusal::not_found()),
    }
}

/// Returns the web page at the server's front.
fn front() -> Response<Body> {
    let page = "<!doctype html>\n<html><title>Attic Binary Cache</title></html>\n";
    let answer = Response::builder().header("content-type", "text/html; charset=utf-8");
    answer.body(full(page)).unwrap()
}
