//! Commit statuses of a Forgejo or Gitea, over its HTTP API.
//!
//! `POST /api/v1/repos/OWNER/NAME/statuses/COMMIT`, as both serve it. The newest
//! status of a context is what counts; older ones stay in the list. Nothing is
//! redirected: the token would go along. Surprises: a commit that the server
//! does not know is answered with 500; and whatever else answers there, a login
//! page, may well do so with 200, so that only Forgejo's own answer counts.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::failure::ReportFailed;
use crate::config::Report;
use crate::core::plain::one_line;
use crate::core::types::Commit;
use fort_http::{Broken, Secret, token};

/// Time limit for the name lookup, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Largest error body that is read, in bytes.
const LARGEST_ERROR: usize = 16 << 10;

/// The states that Forgejo and Gitea know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitState {
    /// The deployment is under way.
    Pending,
    /// The commit runs, and was verified.
    Success,
    /// The commit does not work.
    Failure,
    /// Something came between; it is not the commit's fault.
    Error,
    /// The commit was never tried to the end.
    Warning,
}

/// Commit status, which is shown beside a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommitStatus {
    /// State of the deployment, in one word.
    pub state: CommitState,
    /// Description of the state, in a few words.
    pub description: String,
    /// Context that the status belongs to: each has one status per commit.
    pub context: String,
}

/// One repository of a Forgejo.
#[derive(Debug)]
pub struct Forgejo {
    report: Report,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

impl Forgejo {
    /// Takes the repository that is configured. Nothing is sent yet.
    pub fn new(report: &Report) -> Self {
        Self { report: report.clone() }
    }

    /// Gives a commit a status, within `limit`, on a connection of its own.
    pub async fn send(
        &self,
        commit: Commit,
        status: &CommitStatus,
        limit: Duration,
    ) -> Result<(), ReportFailed> {
        let Report { forgejo, repository, token_file, .. } = &self.report;
        let setup = |error: &dyn std::error::Error| ReportFailed::Setup(error.to_string());
        let token = token::read(token_file)?;
        let odd = |_| ReportFailed::Setup(format!("the token in {} is odd", token_file.display()));
        let mut header = HeaderValue::try_from(format!("token {}", token.expose())).map_err(odd)?;
        header.set_sensitive(true);
        let body = serde_json::to_vec(status).map_err(|error| setup(&error))?;
        let url = format!("{forgejo}/api/v1/repos/{repository}/statuses/{commit}");
        let request = self.client(limit)?.post(url).header(AUTHORIZATION, header);
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await.map_err(|error| broken(&error, limit))?;
        if let Some(content) = foreign(&answer) {
            return Err(ReportFailed::NotForgejo { status: answer.status().as_u16(), content });
        }
        if answer.status().is_success() {
            return Ok(());
        }
        Err(self.refusal(answer, &token).await)
    }

    fn client(&self, limit: Duration) -> Result<Client, ReportFailed> {
        fort_http::client_trusting(&self.report.forgejo, self.report.ca_file.as_deref())
            .map_err(|error| ReportFailed::Setup(error.to_string()))?
            .user_agent(fort_http::USER_AGENT)
            .connect_timeout(CONNECT_LIMIT.min(limit))
            .timeout(limit)
            .http1_only()
            .build()
            .map_err(|error| broken(&error, limit))
    }

    async fn refusal(&self, answer: Response, token: &Secret) -> ReportFailed {
        let Report { repository, token_file, .. } = &self.report;
        let (repository, file) = (repository.clone(), token_file.clone());
        let (status, code) = (answer.status(), answer.status().as_u16());
        match status {
            StatusCode::UNAUTHORIZED => ReportFailed::Unauthorized { file },
            StatusCode::FORBIDDEN => ReportFailed::Forbidden { file, repository },
            StatusCode::NOT_FOUND => ReportFailed::NotFound { repository },
            _ if status.is_redirection() => ReportFailed::Redirected { to: target(&answer) },
            _ => {
                // One that repeats the token is not repeated.
                let said = token.hidden_in(&words(answer).await);
                let transient = status.is_server_error() || matches!(code, 408 | 429);
                match transient {
                    true => ReportFailed::Server { status: code, said },
                    false => ReportFailed::Rejected { status: code, said },
                }
            }
        }
    }
}

/// Returns the kind of an answer that is none of the API's: the API says all it has to
/// say in JSON. A server's own troubles and redirects are told by their status.
fn foreign(answer: &Response) -> Option<String> {
    let status = answer.status();
    if status.is_redirection() || status.is_server_error() {
        return None;
    }
    let content = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content.map(|content| content.split(';').next().unwrap_or_default().trim());
    match kind {
        Some(kind) if kind.contains("json") => None,
        Some("text/html" | "application/xhtml+xml") => Some("a web page".into()),
        Some(kind) => Some(one_line(kind)),
        None => Some("of no kind".into()),
    }
}

/// Returns the server that a redirect leads to.
fn target(answer: &Response) -> String {
    let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(url) = answer.url().join(location) else { return "nowhere".into() };
    url.origin().ascii_serialization()
}

/// Reads the error message of an answer, in one line.
async fn words(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend(chunk);
        if bytes.len() > LARGEST_ERROR {
            return "no error of Forgejo's".into();
        }
    }
    match serde_json::from_slice::<Said>(&bytes) {
        Ok(said) if said.message.is_empty() => "it does not say why".into(),
        Ok(said) => one_line(&said.message),
        Err(_) => "no error of Forgejo's".into(),
    }
}

fn broken(error: &reqwest::Error, limit: Duration) -> ReportFailed {
    let advice = "this host has to trust its issuer, or name it in report.ca_file";
    match Broken::of(error, error.is_timeout(), advice) {
        Broken::Tls(what) => ReportFailed::Tls { what },
        Broken::Late => ReportFailed::Late { limit },
        Broken::Unreachable(what) => ReportFailed::Unreachable { what },
    }
}
