//! Whether Nix could read from a cache at this moment.

use std::path::Path;
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode};

use super::{AtticFailed, answer, client};
use fort_http::Secret;
use fort_http::token::{self, NoToken};

/// Timeout of both questions together: a cache that needs longer is not worth it.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest nix-cache-info that is read, in bytes: a cache's has three lines.
const LARGEST: usize = 16 << 10;
/// Hash of a path that nobody has.
const NOBODYS: &str = "00000000000000000000000000000000";
/// User name that the token is sent with: Attic looks at the password only.
pub const LOGIN: &str = "fort-agent";

/// Asks a cache what Nix will ask it, with the token that Nix will send:
/// its information, and a path that it cannot have.
///
/// Fails with why it is of no use to Nix.
pub async fn readable(
    endpoint: &str,
    name: &str,
    token_file: Option<&Path>,
) -> Result<(), AtticFailed> {
    let client = client(endpoint)?;
    let token = token_file.map(token::read).transpose();
    let asker = Asker { client, cache: format!("{endpoint}/{name}"), name, token_file, token };
    tokio::time::timeout(LIMIT, asker.ask())
        .await
        .map_err(|_| AtticFailed::Late { limit: LIMIT })?
}

struct Asker<'a> {
    client: Client,
    cache: String,
    name: &'a str,
    token_file: Option<&'a Path>,
    token: Result<Option<Secret>, NoToken>,
}

impl Asker<'_> {
    async fn ask(self) -> Result<(), AtticFailed> {
        let information = self.get("nix-cache-info").await?;
        if !information.status().is_success() {
            return Err(self.refused(information).await);
        }
        let (bytes, whole) = answer::body(information, LARGEST).await;
        let text = String::from_utf8_lossy(&bytes);
        let directory = text.lines().find_map(|line| line.strip_prefix("StoreDir:"));
        match directory.map(str::trim) {
            Some("/nix/store") if whole => {}
            Some(theirs) if whole => {
                return Err(AtticFailed::OtherStore { theirs: fort_core::plain::one_line(theirs) });
            }
            Some(_) | None => {
                let found = "its nix-cache-info names no store".to_owned();
                return Err(AtticFailed::NotAttic { found });
            }
        }
        let answer = self.get(&format!("{NOBODYS}.narinfo")).await?;
        match answer.status() {
            // S3 says it so.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => Ok(()),
            status if status.is_success() => {
                let found = format!("it answers with {} for a path nobody has", status.as_u16());
                Err(AtticFailed::NotAttic { found })
            }
            _ => Err(self.refused(answer).await),
        }
    }

    async fn get(&self, file: &str) -> Result<Response, AtticFailed> {
        let request = self.client.get(format!("{}/{file}", self.cache));
        let request = match &self.token {
            Ok(Some(token)) => request.basic_auth(LOGIN, Some(token.expose())),
            Ok(None) | Err(_) => request,
        };
        request.send().await.map_err(|error| AtticFailed::of(&error, LIMIT))
    }

    /// Tells why an answer is of no use.
    async fn refused(self, answer: Response) -> AtticFailed {
        let status = answer.status();
        match (self.token, self.token_file) {
            (Ok(Some(token)), Some(file)) => {
                let refused = answer::refusal(answer).await;
                refused.explained(&token, self.name, file)
            }
            (Err(missing), _) if status == StatusCode::UNAUTHORIZED => missing.into(),
            (_, _) => {
                let said = match answer.headers().get(LOCATION) {
                    Some(_) => "it redirects; make where it leads cache.endpoint",
                    None => "and no token was sent",
                };
                AtticFailed::Rejected { status: status.as_u16(), said: said.into() }
            }
        }
    }
}
