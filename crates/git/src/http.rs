//! HTTP as git's smart protocol needs it, below gix's transport.
//!
//! Used instead of gix's own reqwest backend, which follows redirects, keeps
//! a thread and three pipes per connection, bounds nothing and erases what
//! went wrong. Here nothing is redirected, sizes and times are bounded, and
//! the first failure of a connection is kept ([`Http::failure`]).
//!
//! A connection has no thread of its own: whoever waits for an answer drives it
//! meanwhile ([`Driver`]), and between two polls nobody does.
//!
//! gix never sees the token: it is read from its file and added here, with
//! each request.

use std::io::{self, BufRead, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Remote;
use super::exchange::HttpAnswer;
use super::failure::PollError;
use super::limits::{Meter, Stopped};
use fort_core::plain::one_line;
use fort_sys::error_chain;

/// Timeout of the name lookup, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Time that an answer may take. How large it may be, its [`Meter`] says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Read as a whole within twice the remote's timeout.
    Poll,
    /// Read as it comes; each read may take the remote's timeout, and the whole is
    /// bounded by the life of the process that fetches.
    Fetch,
}

/// One remote over HTTP.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    driver: Arc<Driver>,
    remote: Arc<Remote>,
    pace: Pace,
    meter: Meter,
    failure: Arc<Mutex<Option<PollError>>>,
}

impl Http {
    /// Prepares for a remote; nothing is sent yet.
    pub(super) fn new(remote: &Remote, pace: Pace) -> Result<Self, PollError> {
        let client = fort_http::client_trusting(&remote.url, remote.ca_file.as_deref())
            .map_err(|e| PollError::Setup(e.to_string()))?;
        let client = client
            // The name begins as git's own: some proxies let only that through.
            .user_agent(concat!("git/fort-agent-", env!("CARGO_PKG_VERSION")))
            .connect_timeout(remote.timeout.min(CONNECT_LIMIT))
            .pool_idle_timeout(Duration::from_secs(300))
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(60))
            .build()
            .map_err(|e| PollError::Setup(format!("cannot set up HTTPS: {}", words(&e))))?;
        let driver = Driver::new()
            .map_err(|e| PollError::Setup(format!("cannot set up HTTPS: {e}")))?
            .into();
        let remote = Arc::new(remote.clone());
        Ok(Self { client, driver, remote, pace, meter: Meter::list(), failure: Arc::default() })
    }

    /// First failure of the connection, if it was in the HTTP part.
    pub(super) fn failure(&self) -> Option<PollError> {
        lock(&self.failure).clone()
    }

    /// Meter that counts what comes. It expects lists of refs, until told otherwise.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn fail(&self, error: PollError) -> io::Error {
        let told = io::Error::other(error.to_string());
        lock(&self.failure).get_or_insert(error);
        told
    }

    /// Sends a request with the token as it is now, and waits for its answer.
    pub(super) fn exchange(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> io::Result<HttpAnswer> {
        let token = self.remote.token().map_err(|e| self.fail(e))?;
        let authorised = token.is_some();
        let mut request = match body {
            Some(body) => self.client.post(url).body(body),
            None => self.client.get(url),
        }
        .headers(headers);
        if let Some(token) = token {
            request = request.basic_auth(&self.remote.username, Some(token.expose()));
        }
        let started = Instant::now();
        let connect = self.remote.timeout.min(CONNECT_LIMIT);
        let answer = self.within_timeout(connect, async {
            settle().await;
            request.send().await
        })?;
        self.refusal(&answer, authorised).map_or(Ok(()), |e| Err(self.fail(e)))?;
        let headers = format!("content-type: {}\n", content_type(&answer)).into_bytes();
        self.meter.begin();
        let mut body = Bounded { http: self.clone(), answer, chunk: Bytes::new(), started };
        let body: Box<dyn BufRead + Send> = match self.pace {
            // Read to its end at once: that leaves the connection free, and
            // nothing half-read behind for the time until the next poll.
            Pace::Poll => {
                let mut whole = Vec::new();
                body.read_to_end(&mut whole)?;
                Box::new(Cursor::new(whole))
            }
            Pace::Fetch => Box::new(io::BufReader::with_capacity(64 << 10, body)),
        };
        Ok(HttpAnswer { headers: Cursor::new(headers), body })
    }

    /// Waits for one step of an exchange, for as long as the remote's timeout.
    /// `connect`: the limit that was exceeded if that step is to connect.
    fn within_timeout<T>(
        &self,
        connect: Duration,
        step: impl Future<Output = reqwest::Result<T>>,
    ) -> io::Result<T> {
        let limit = self.remote.timeout;
        match self.driver.drive(async { timeout(limit, step).await }) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let limit = if error.is_connect() { connect } else { limit };
                Err(self.fail(PollError::from_reqwest(&error, limit)))
            }
            Err(_elapsed) => Err(self.fail(PollError::Stalled { after: limit })),
        }
    }

    fn refusal(&self, answer: &Response, authorised: bool) -> Option<PollError> {
        let status = answer.status();
        if status.is_redirection() {
            return Some(PollError::Redirected { to: redirect_target(answer) });
        }
        if !status.is_success() {
            return Some(match status.as_u16() {
                401 => PollError::Unauthorized {
                    file: self.remote.token_file.clone().filter(|_| authorised),
                },
                403 => PollError::Forbidden,
                404 | 410 => PollError::NotFound,
                other => PollError::Status(other),
            });
        }
        let content = content_type(answer);
        (!content.starts_with("application/x-git-upload-pack-")).then(|| PollError::NotGit {
            content: match content.split(';').next().unwrap_or_default().trim() {
                "" => "of unknown type".into(),
                "text/html" => "a web page".into(),
                other => one_line(other),
            },
        })
    }
}

/// A body of which no more is read than the limit, and for no longer.
struct Bounded {
    http: Http,
    answer: Response,
    /// Bytes that have come and were not read yet.
    chunk: Bytes,
    started: Instant,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.http.remote.timeout;
        if matches!(self.http.pace, Pace::Poll) && self.started.elapsed() > limit * 2 {
            return Err(self.http.fail(PollError::Stalled { after: limit * 2 }));
        }
        while self.chunk.is_empty() {
            match self.http.within_timeout(limit, self.answer.chunk())? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let read = self.chunk.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.chunk.split_to(read));
        self.http.meter.take(read).inspect_err(|_| {
            if let Some(Stopped::Exceeds(limit)) = self.http.meter.stopped() {
                self.http.fail(PollError::Exceeds(limit));
            }
        })?;
        Ok(read)
    }
}

/// Runs one remote's connection on the thread that waits for it.
struct Driver(Option<Runtime>);

impl Driver {
    fn new() -> io::Result<Self> {
        Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        runtime.block_on(future)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A name lookup that hangs must not delay whoever drops it, which may be the
        // loop of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets the connection finish what the last exchange left, and see whether the server
/// has closed it since: nobody has driven it in between.
async fn settle() {
    // The socket's news, the TLS session's, and the pool's, which each wake the next.
    for _ in 0..4 {
        yield_now().await;
    }
}

/// Nothing is left half-changed under these locks, whoever panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn content_type(answer: &Response) -> &str {
    answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn redirect_target(answer: &Response) -> String {
    let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(mut url) = answer.url().join(location) else { return "nowhere".into() };
    url.set_query(None);
    url.set_fragment(None);
    // Both only fail for addresses that have no host, which carry neither.
    let _ = (url.set_username(""), url.set_password(None));
    one_line(url.as_str().trim_end_matches("/info/refs"))
}

fn words(error: &reqwest::Error) -> String {
    error_chain::chain(error).last().map(|e| one_line(&e.to_string())).unwrap_or_default()
}
