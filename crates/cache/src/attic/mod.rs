//! The cluster's binary cache: an Attic server, over its HTTP API.
//!
//! It asks and sends; what is worth sending, and in which order, is decided
//! elsewhere (`publish/`). Surprises: the server checks neither closures nor
//! the order of references, so what is sent has to be right; and an answer can
//! come before all of a path was sent. Nothing is redirected, and nobody but
//! the configured address is talked to: the cache's own `api_endpoint` could
//! point anywhere, and the token would go there.
//!
//! The protocol is that of Attic's `server/src/api/v1` and `attic/src/api/v1`.

mod answer;
mod body;
mod claims;
mod failure;
mod gate;
mod info;
mod substituter;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};

use self::body::Body;
pub use self::failure::{AtticFailed, Reach};
pub use self::gate::Gate;
pub use self::info::NarInfo;
pub use self::substituter::{LOGIN, readable};
use fort_http::token;
use fort_http::{Broken, Secret};
use fort_nix::nar::Packed;

/// Timeout of the name lookup, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Timeout of a small question and its answer.
const ASK_LIMIT: Duration = Duration::from_secs(60);
/// Longest time in which an upload may make no progress.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest time from the last byte of a path to the answer: the server still has to
/// store what it holds.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// Hashes in one question: with sqlite the server fails at 32,766, and refuses a body over 2 MiB.
const BATCH: usize = 10_000;
/// Length from which metadata is not sent as a header, in bytes: proxies cut longer ones.
const LONGEST_HEADER: usize = 4 << 10;

const INFO: &str = "x-attic-nar-info";
const PREAMBLE_SIZE: &str = "x-attic-nar-info-preamble-size";

/// One cache of an Attic server.
pub struct Attic {
    client: Client,
    endpoint: String,
    name: String,
    token_file: PathBuf,
}

/// Configuration that the cache reports, as far as it is believed: its public key and
/// its addresses come from this host's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CacheConfig {
    /// Directory that its paths live in: `/nix/store`.
    pub store_dir: String,
    /// Names of keys whose paths the cache need not have.
    #[serde(default)]
    pub upstream_cache_key_names: Vec<String>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    cache: &'a str,
    store_path_hashes: &'a [&'a str],
}

#[derive(Deserialize)]
struct Missing {
    missing_paths: BTreeSet<String>,
}

/// Answer of the server to an upload that it took.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Uploaded {
    #[allow(dead_code, reason = "an answer without it is none")]
    kind: String,
}

impl Attic {
    /// Returns the cache of that name at that address. Nothing is sent yet.
    pub fn new(endpoint: &str, name: &str, token_file: PathBuf) -> Result<Self, AtticFailed> {
        let client = client(endpoint)?;
        Ok(Self { client, endpoint: endpoint.into(), name: name.into(), token_file })
    }

    /// Asks for the cache's configuration. Needs permission to pull.
    pub async fn config(&self) -> Result<CacheConfig, AtticFailed> {
        let path = format!("cache-config/{}", self.name);
        let (request, token) = self.request(Method::GET, &path)?;
        let answer = self.answer(request.timeout(ASK_LIMIT), &token, ASK_LIMIT).await?;
        answer::read(answer).await
    }

    /// Returns which of these paths the cache lacks, by the hashes in their names.
    /// Needs permission to push.
    pub async fn missing(&self, hashes: &[&str]) -> Result<BTreeSet<String>, AtticFailed> {
        let mut missing = BTreeSet::new();
        for batch in hashes.chunks(BATCH) {
            let wanted = Wanted { cache: &self.name, store_path_hashes: batch };
            let (request, token) = self.request(Method::POST, "get-missing-paths")?;
            let body = serde_json::to_vec(&wanted)
                .map_err(|e| AtticFailed::Malformed { what: e.to_string() })?;
            let request = request.header(CONTENT_TYPE, "application/json").body(body);
            let answer = self.answer(request.timeout(ASK_LIMIT), &token, ASK_LIMIT).await?;
            let found: Missing = answer::read(answer).await?;
            missing.extend(found.missing_paths);
        }
        Ok(missing)
    }

    /// Sends one path, its last byte when `gate` is open. Needs permission to
    /// push. If what is sent ends early, the server keeps nothing of it. One
    /// that wants no proof of possession may take what it knows at once.
    pub async fn upload(
        &self,
        info: &NarInfo<'_>,
        packed: Packed,
        gate: Arc<Gate>,
    ) -> Result<(), AtticFailed> {
        let told = info.to_json(&self.name)?;
        let (request, token) = self.request(Method::PUT, "upload-path")?;
        let (request, preamble) = if told.len() < LONGEST_HEADER {
            (request.header(INFO, told), Vec::new())
        } else {
            (request.header(PREAMBLE_SIZE, told.len()), told)
        };
        let way = Arc::new(body::Way::default());
        let body = Body::new(preamble, packed, Arc::clone(&way), gate);
        let request = request.body(reqwest::Body::wrap(body));
        let answer = tokio::select! {
            answer = self.answer(request, &token, STALL_LIMIT) => answer?,
            limit = way.stalled(STALL_LIMIT, ANSWER_LIMIT) => {
                return Err(AtticFailed::Late { limit });
            }
        };
        let reading = tokio::time::timeout(ASK_LIMIT, answer::read::<Uploaded>(answer)).await;
        reading.map_err(|_| AtticFailed::Late { limit: ASK_LIMIT })?.map(|_| ())
    }

    /// Whether the token that is there now may do better than the one that was
    /// refused: it is another one, or is valid from a moment on.
    pub async fn token_has_changed(&self, refused: &AtticFailed) -> bool {
        let AtticFailed::Unauthorized { token, .. } = refused else { return false };
        if let Some(wait) = claims::valid_in(token.expose()) {
            tokio::time::sleep(wait).await;
            return true;
        }
        token::read(&self.token_file).is_ok_and(|now| now != *token)
    }

    fn request(&self, method: Method, path: &str) -> Result<(RequestBuilder, Secret), AtticFailed> {
        let token = token::read(&self.token_file)?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| AtticFailed::odd_token(&self.token_file))?;
        header.set_sensitive(true);
        let url = format!("{}/_api/v1/{path}", self.endpoint);
        let request = self.client.request(method, url).header(AUTHORIZATION, header);
        Ok((request, token))
    }

    async fn answer(
        &self,
        request: RequestBuilder,
        token: &Secret,
        limit: Duration,
    ) -> Result<Response, AtticFailed> {
        let answer = request.send().await.map_err(|e| AtticFailed::of(&e, limit))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refused = answer::refusal(answer).await;
        Err(refused.explained(token, &self.name, &self.token_file))
    }
}

/// Returns a client that talks to nobody but this server.
fn client(endpoint: &str) -> Result<Client, AtticFailed> {
    fort_http::client(endpoint)
        .user_agent(fort_http::USER_AGENT)
        .connect_timeout(CONNECT_LIMIT)
        .tcp_keepalive(Duration::from_secs(60))
        // Paths at the same time are connections at the same time: in one
        // connection of HTTP/2 they would share its window.
        .http1_only()
        .build()
        .map_err(|e| AtticFailed::of(&e, CONNECT_LIMIT))
}

impl AtticFailed {
    fn of(error: &reqwest::Error, limit: Duration) -> Self {
        let advice = "this host has to trust its issuer, or the endpoint is another's";
        match Broken::of(error, error.is_timeout(), advice) {
            Broken::Tls(what) => Self::Tls { what },
            Broken::Late => Self::Late { limit },
            Broken::Unreachable(what) => Self::Unreachable { what },
        }
    }
}
