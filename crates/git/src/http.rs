//! HTTP as git's smart protocol needs it, below gix's transport.
//!
//! Used instead of gix's own reqwest backend, which follows redirects, keeps
//! a thread and three pipes per connection, bounds nothing and erases what
//! went wrong. Here nothing is redirected, sizes and times are bounded, and
//! the first failure of a connection is kept ([`Http::failure`]).
//!
//! gix never sees the token: it is read from its file and added here, with
//! each request.

use std::io::{self, BufRead, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};

use super::Remote;
use super::exchange::Answer;
use super::failure::PollError;
use super::limits::{Meter, Stopped};
use fort_core::plain::one_line;

/// For the name lookup, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long an answer may take. How large it may be, its [`Meter`] says.
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
        let client = ClientBuilder::from(client)
            // The name begins as git's own: some proxies let only that through.
            .user_agent(concat!("git/fort-agent-", env!("CARGO_PKG_VERSION")))
            .connect_timeout(remote.timeout.min(CONNECT_LIMIT))
            .timeout(remote.timeout)
            .pool_idle_timeout(Duration::from_secs(300))
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(60))
            .build()
            .map_err(|e| PollError::Setup(format!("cannot set up HTTPS: {}", words(&e))))?;
        let remote = Arc::new(remote.clone());
        Ok(Self { client, remote, pace, meter: Meter::list(), failure: Arc::default() })
    }

    /// What went wrong first, if it was in here.
    pub(super) fn failure(&self) -> Option<PollError> {
        lock(&self.failure).clone()
    }

    /// Counts what comes. It expects lists of refs, until told otherwise.
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
    ) -> io::Result<Answer> {
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
        let answer = request.send().map_err(|e| {
            let connect = self.remote.timeout.min(CONNECT_LIMIT);
            let limit = if e.is_connect() { connect } else { self.remote.timeout };
            self.fail(PollError::from_reqwest(&e, limit))
        })?;
        self.refusal(&answer, authorised).map_or(Ok(()), |e| Err(self.fail(e)))?;
        let headers = format!("content-type: {}\n", content_type(&answer)).into_bytes();
        self.meter.begin();
        let mut body = Bounded { http: self.clone(), answer, started };
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
        Ok(Answer { headers: Cursor::new(headers), body })
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
    started: Instant,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = self.http.remote.timeout;
        if matches!(self.http.pace, Pace::Poll) && self.started.elapsed() > timeout * 2 {
            return Err(self.http.fail(PollError::Stalled { after: timeout * 2 }));
        }
        let read = self
            .answer
            .read(buffer)
            .map_err(|e| self.http.fail(PollError::from_io(&e, timeout)))?;
        self.http.meter.take(read).inspect_err(|_| {
            if let Some(Stopped::Exceeds(limit)) = self.http.meter.stopped() {
                self.http.fail(PollError::Exceeds(limit));
            }
        })?;
        Ok(read)
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
    fort_http::chain(error).last().map(|e| one_line(&e.to_string())).unwrap_or_default()
}
