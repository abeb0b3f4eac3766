//! HTTP server of the agent: metrics, the status, whether it lives, and a page for people.
//!
//! Unauthenticated and read-only. Whoever can reach the address may be anyone: heads,
//! connections and times are bounded, bodies are never read, each connection answers
//! one request, and only one that is for this host. An address that is taken, or that
//! is not there yet (that of a VPN), is tried again; deploying does not wait for it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::announce::Notes;
use crate::clock;
use crate::control::Shown;
use crate::metrics::{self, Metrics};

mod names;
mod page;
mod places;

use names::Named;
pub use names::Names;
use places::{Asked, Places};

/// Sources of what is served.
#[derive(Clone)]
pub struct Pages {
    /// Metrics that are served at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// State that the loop published last, for `/status` and `/`; `None` before its first turn.
    pub shown: watch::Receiver<Option<Arc<Shown>>>,
    /// Whether the loop has turned lately, for `/healthz` and `/`.
    pub turns: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Notes, in which a port that cannot be had is reported.
    pub notes: Notes,
    /// Names by which this host is asked.
    pub names: Names,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// Limits on what strangers are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// Most connections at a time. The next one ends the oldest that has not sent a head yet.
    pub connections: usize,
    /// Most connections at a time from one address, or from one /64 of IPv6.
    pub of_one: usize,
    /// Time limit for sending a request's head.
    pub head: Duration,
    /// Time limit of a connection, from the first byte to the last.
    pub connection: Duration,
    /// Pause between the first two tries to listen; doubles up to [`LONGEST_PAUSE`].
    pub listen_again: Duration,
}

impl Default for WebLimits {
    fn default() -> Self {
        Self {
            connections: 32,
            of_one: 4,
            head: Duration::from_secs(2),
            connection: Duration::from_secs(15),
            listen_again: Duration::from_secs(1),
        }
    }
}

/// The longest pause between two tries to listen.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Largest head of a request, in bytes: the least that hyper takes.
const HEAD_BYTES: usize = 8192;

const NOT_HERE: &str = "this host has another name: ask by its address, or by its host name; \
    `names` in [metrics] are the others that it answers to\n";

/// Serves the pages on an address until `shutdown` is done. Never fails: an address
/// that cannot be had is tried again. Must be called in a runtime.
pub fn serve(
    listen: SocketAddr,
    pages: Pages,
    limits: WebLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown => {}
            () = run(listen, pages, limits) => {}
        }
    })
}

async fn run(listen: SocketAddr, pages: Pages, limits: WebLimits) {
    let listener = bind(listen, limits.listen_again, &pages.notes).await;
    let mut places = Places::new(limits.connections, limits.of_one);
    // Aborted together when this ends.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                if !places.make_room(from.ip()) {
                    continue;
                }
                let (pages, asked) = (pages.clone(), Asked::default());
                let attended =
                    timeout(limits.connection, attend(stream, pages, limits, asked.clone()));
                let connection = connections.spawn(async { drop(attended.await) });
                places.take(from.ip(), asked, connection);
                // What has already come is read before anybody has to go.
                yield_now().await;
            }
            Err(error) => {
                // Out of file descriptors, most likely.
                tracing::warn!("http: a caller could not be let in: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Listens on an address; says once that it cannot be had, and once that it could.
async fn bind(listen: SocketAddr, first_pause: Duration, notes: &Notes) -> TcpListener {
    let mut pause = first_pause;
    let mut failed: Option<io::ErrorKind> = None;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                notes.set("http", None);
                tracing::info!("http: metrics are at http://{listen}/metrics");
                return listener;
            }
            Err(error) => {
                if failed != Some(error.kind()) {
                    let said =
                        format!("http: {listen} cannot be listened on, tried again: {error}");
                    tracing::warn!("{said}");
                    notes.set("http", Some(said));
                }
                failed = Some(error.kind());
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attend(stream: TcpStream, pages: Pages, limits: WebLimits, asked: Asked) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                asked.set();
                let response = respond(&request, &pages);
                async move { Ok::<_, Infallible>(response) }
            }),
        )
        .await;
    if let Err(error) = answered {
        tracing::debug!("http: {error}");
    }
}

fn respond(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    match pages.names.judge(request) {
        Named::Here => {}
        Named::Elsewhere => return text(StatusCode::MISDIRECTED_REQUEST, NOT_HERE),
        Named::Badly => return text(StatusCode::BAD_REQUEST, "which host is it for?\n"),
    }
    let path = request.uri().path();
    let known = matches!(path, "/" | "/metrics" | "/status" | "/healthz");
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if known && !reads {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/" => for_people(pages),
        "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, pages.metrics.encode()),
        "/status" => status(pages),
        "/healthz" => health(pages),
        _ => text(StatusCode::NOT_FOUND, "there are /, /metrics, /status and /healthz\n"),
    }
}

/// Answers `/healthz`. A loop that turns and cannot look at the host is of no more use
/// than one that stands still.
fn health(pages: &Pages) -> Response<Full<Bytes>> {
    let blind = |shown: &Arc<Shown>| shown.status.blind.is_some();
    match ((pages.turns)(), pages.shown.borrow().as_ref().is_some_and(blind)) {
        (true, false) => text(StatusCode::OK, "the loop turns\n"),
        (true, true) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "this host cannot be looked at: see /status\n")
        }
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n"),
    }
}

fn status(pages: &Pages) -> Response<Full<Bytes>> {
    let shown = pages.shown.borrow().clone();
    match shown.map(|shown| serde_json::to_string(&shown.status)) {
        Some(Ok(json)) => answer(StatusCode::OK, "application/json", json),
        Some(Err(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, "the status cannot be written\n"),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the agent has only just been started\n"),
    }
}

fn for_people(pages: &Pages) -> Response<Full<Bytes>> {
    let shown = pages.shown.borrow().clone();
    let (code, html) = match shown {
        Some(shown) => (StatusCode::OK, page::page(&shown, (pages.turns)(), clock::now().wall)),
        None => (StatusCode::SERVICE_UNAVAILABLE, page::starting()),
    };
    let mut response = answer(code, page::CONTENT_TYPE, html.into_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, page::POLICY.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn text(code: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(code, "text/plain; charset=utf-8", text.to_owned())
}

fn answer(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
