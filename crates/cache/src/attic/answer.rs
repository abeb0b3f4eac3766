//! Reads what the server answers. Its own errors are JSON, its framework's are
//! text, and a proxy's are web pages.

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::{AtticFailed, Refused};
use fort_core::plain::one_line;

/// Largest answer that is read, in bytes: ten thousand hashes are 350 kB.
const LARGEST: usize = 4 << 20;
/// Largest error body that is read, in bytes.
const LARGEST_ERROR: usize = 16 << 10;

/// Body of an error of Attic's own.
#[derive(Deserialize)]
struct Said {
    error: String,
    message: String,
}

/// Reads the JSON of an answer that is a success.
pub(super) async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, AtticFailed> {
    let page = content_type(&answer).starts_with("text/html");
    let (bytes, whole) = body(answer, LARGEST).await;
    if page {
        return Err(AtticFailed::NotAttic { found: "it answers with a web page".into() });
    }
    if !whole {
        return Err(AtticFailed::Malformed { what: "it ends too early".into() });
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| AtticFailed::Malformed { what: one_line(&error.to_string()) })
}

/// Tells what an answer means that is no success.
pub(super) async fn refusal(answer: Response) -> Refused {
    let status = answer.status();
    if status.is_redirection() {
        return Refused::Other(AtticFailed::Redirected { to: target(&answer) });
    }
    let kind = content_type(&answer).to_owned();
    let (bytes, _) = body(answer, LARGEST_ERROR).await;
    let own: Option<Said> = serde_json::from_slice(&bytes).ok();
    let said = match &own {
        Some(said) => one_line(&said.message),
        None if kind.starts_with("text/html") => "a web page".into(),
        None => one_line(&String::from_utf8_lossy(&bytes)),
    };
    let code = status.as_u16();
    match (status, own) {
        (StatusCode::UNAUTHORIZED, _) => Refused::Unauthorized,
        (StatusCode::FORBIDDEN, _) => Refused::Forbidden,
        (StatusCode::NOT_FOUND, Some(own)) if own.error == "NoSuchCache" => Refused::NoSuchCache,
        (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE, _) => {
            Refused::Other(AtticFailed::NotAttic { found: format!("it answers with {code}") })
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Refused::Other(AtticFailed::TooLarge),
        // A body that ended too early is told as 400: nothing says whose fault
        // that was, but trying again is right.
        (StatusCode::BAD_REQUEST, None) if said.contains("reading a body") => {
            Refused::Other(AtticFailed::Unreachable { what: said })
        }
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            Refused::Other(AtticFailed::Server { status: code, said })
        }
        (status, _) if status.is_server_error() => {
            Refused::Other(AtticFailed::Server { status: code, said })
        }
        _ => Refused::Other(AtticFailed::Rejected { status: code, said }),
    }
}

/// Reads at most `most` bytes of a body, and returns whether that is all of it.
pub(super) async fn body(mut answer: Response, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= most => bytes.extend(chunk),
            Ok(None) => return (bytes, true),
            Ok(Some(_)) | Err(_) => return (bytes, false),
        }
    }
}

fn content_type(answer: &Response) -> &str {
    answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn target(answer: &Response) -> String {
    let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(url) = answer.url().join(location) else { return "nowhere".into() };
    // What is needed of it: whose it is.
    url.origin().ascii_serialization()
}
