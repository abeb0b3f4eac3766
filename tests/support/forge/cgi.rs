//! git's own server program, behind any HTTP server.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt as _;

/// Earlier answers, by address and question.
pub(super) type Answers = Mutex<HashMap<(String, Bytes), Vec<u8>>>;

/// Runs `git http-backend`, a CGI program; or says what it said before.
pub(super) async fn backend(
    request: Request<Incoming>,
    projects: &Path,
    answers: Option<&Answers>,
) -> io::Result<(hyper::http::response::Builder, Vec<u8>)> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let question = (head.uri.to_string(), body.clone());
    let known = answers.and_then(|answers| answers.lock().unwrap().get(&question).cloned());
    if let Some(known) = known {
        return answer(&known);
    }
    let header = |name: &str| {
        head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", projects)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "fort-agent")
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let (_, output) = tokio::join!(
        async move {
            // It may stop reading early; what it then answers says why.
            let _ = stdin.write_all(&body).await;
        },
        child.wait_with_output()
    );
    let output = output?.stdout;
    if let Some(answers) = answers {
        answers.lock().unwrap().insert(question, output.clone());
    }
    answer(&output)
}

/// Parses the output of a CGI program.
fn answer(output: &[u8]) -> io::Result<(hyper::http::response::Builder, Vec<u8>)> {
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let mut builder = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        if let Some((name, value)) = line.split_once(": ") {
            builder = match name {
                "Status" => builder.status(value.get(..3).unwrap_or("500")),
                _ => builder.header(name, value),
            };
        }
    }
    Ok((builder, output[end + 4..].to_vec()))
}
