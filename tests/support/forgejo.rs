//! Forgejo's commit statuses, as faithful as its sources are: who may set one,
//! which commits it knows, what it keeps, and the words of its errors. It can be
//! told to misbehave, and it tells what it was sent.
//!
//! It is stricter in one thing: Forgejo takes any state that its database has
//! room for (`VARCHAR(7)`); here only the five that it documents are taken.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::forge::certify;

/// The token of a user who may write, and of one who may not.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const READ_ONLY: &str = "76543210fedcba9876543210fedcba9876543210";
/// The repository that it has.
pub(crate) const REPOSITORY: &str = "infra/nixos";

const STATES: [&str; 5] = ["pending", "success", "error", "failure", "warning"];

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Answers have this status, worded as Forgejo's own failures.
    Status(u16),
    /// Requests are never answered.
    Hang,
    /// Another address, method kept.
    Redirect(String),
    /// An error that repeats the token.
    Repeats,
    /// A web page with this status, as of a portal before it.
    Page(u16),
}

/// Forgejo server that runs in this process.
pub(crate) struct Forgejo {
    address: SocketAddr,
    dir: tempfile::TempDir,
    tls: bool,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    bare: PathBuf,
    fault: Mutex<Fault>,
    statuses: Mutex<Vec<(String, Value)>>,
    requests: Mutex<Vec<Instant>>,
}

impl Forgejo {
    /// One that has the commits of this repository.
    pub(crate) fn start(bare: &Path) -> Self {
        Self::serve(bare, false)
    }

    /// The same over HTTPS, with a CA of its own.
    pub(crate) fn start_tls(bare: &Path) -> Self {
        Self::serve(bare, true)
    }

    fn serve(bare: &Path, tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let acceptor = tls.then(|| certify(&dir.path().join("ca.pem"), "127.0.0.1"));
        let shared = Arc::new(Shared {
            bare: bare.to_owned(),
            fault: Mutex::new(Fault::None),
            statuses: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let accepting = accept(listener, acceptor, for_thread);
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, dir, tls, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// URL of the server, for `[report] forgejo`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Misbehave from now on.
    pub(crate) fn fault(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Statuses that a commit was given, oldest first.
    pub(crate) fn statuses(&self, commit: &str) -> Vec<Value> {
        let all = self.shared.statuses.lock().unwrap();
        all.iter().filter(|(of, _)| of == commit).map(|(_, status)| status.clone()).collect()
    }

    /// States of a commit's statuses, oldest first.
    pub(crate) fn states(&self, commit: &str) -> Vec<String> {
        let state = |status: Value| status["state"].as_str().unwrap().to_owned();
        self.statuses(commit).into_iter().map(state).collect()
    }

    /// How many requests came, answered or not.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// The time between requests.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        let requests = self.shared.requests.lock().unwrap();
        requests.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

impl Drop for Forgejo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Tls = Option<Arc<tokio_rustls::rustls::ServerConfig>>;

async fn accept(listener: std::net::TcpListener, tls: Tls, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(attend(stream, tls.clone(), shared.clone()));
    }
}

async fn attend(stream: TcpStream, tls: Tls, shared: Arc<Shared>) {
    match tls {
        None => converse(stream, shared).await,
        Some(tls) => {
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                converse(stream, shared).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(|request| answer(request, &shared));
    let serving = hyper::server::conn::http1::Builder::new();
    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.requests.lock().unwrap().push(Instant::now());
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let fault = shared.fault.lock().unwrap().clone();
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let (status, said) = match fault {
        Fault::None => {
            let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
            match path.as_slice() {
                ["api", "v1", "repos", owner, name, "statuses", sha] => {
                    let repository = format!("{owner}/{name}");
                    match head.method {
                        Method::POST => create(shared, authorization, &repository, sha, &body),
                        _ => (405, error("Method Not Allowed")),
                    }
                }
                _ => (404, error("The target couldn't be found.")),
            }
        }
        Fault::Status(status) => (status, error("")),
        Fault::Hang => std::future::pending().await,
        Fault::Redirect(to) => {
            let answer = Response::builder().status(307).header("location", to);
            return Ok(answer.body(Full::default()).unwrap());
        }
        Fault::Page(status) => {
            let answer = Response::builder()
                .status(StatusCode::from_u16(status).unwrap())
                .header("content-type", "text/html; charset=utf-8");
            return Ok(answer.body(Full::from("<!DOCTYPE html><title>Log in</title>")).unwrap());
        }
        Fault::Repeats => (502, error(&format!("no upstream for {authorization:?}"))),
    };
    let answer = Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json;charset=utf-8");
    Ok(answer.body(Full::from(said.to_string())).unwrap())
}

fn create(
    shared: &Shared,
    authorization: Option<&str>,
    repository: &str,
    sha: &str,
    body: &[u8],
) -> (u16, Value) {
    let token = authorization.and_then(|value| value.strip_prefix("token "));
    match token {
        None => return (401, error("token is required")),
        Some(TOKEN | READ_ONLY) => {}
        Some(_) => return (401, error("invalid username, password or token")),
    }
    // Nor is somebody told of a repository that he may not see.
    if repository != REPOSITORY {
        return (404, error("The target couldn't be found."));
    }
    if token == Some(READ_ONLY) {
        let scope = "token does not have at least one of required scope(s): [write:repository]";
        return (403, error(scope));
    }
    let Ok(form) = serde_json::from_slice::<Value>(body) else {
        return (422, error("[]: json: cannot unmarshal"));
    };
    let text = |key: &str| form[key].as_str().unwrap_or_default().trim().to_owned();
    let (state, description, context) = (text("state"), text("description"), text("context"));
    let sound = STATES.contains(&state.as_str())
        && (1..=255).contains(&description.chars().count())
        && (1..=255).contains(&context.chars().count());
    if !sound {
        return (422, error("this is stricter than Forgejo"));
    }
    let known = sha.len() == 40
        && std::process::Command::new("git")
            .args(["-C", shared.bare.to_str().unwrap(), "cat-file", "-e"])
            .arg(format!("{sha}^{{commit}}"))
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success();
    if !known {
        // Why is said to administrators only.
        return (500, error(""));
    }
    let status = json!({ "state": state, "description": description, "context": context });
    let mut statuses = shared.statuses.lock().unwrap();
    statuses.push((sha.to_owned(), status.clone()));
    let id = statuses.len();
    (201, json!({ "id": id, "status": state, "description": description, "context": context }))
}

fn error(message: &str) -> Value {
    json!({ "message": message, "url": "https://forgejo.example.org/api/swagger" })
}
