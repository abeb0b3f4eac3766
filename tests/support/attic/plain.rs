//! A plain cache beside Attic's, without any of its rules: files that are PUT
//! are there afterwards. It is what `nix copy --to http://...` wants.

use std::fs::File;

use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::Asked;
use super::body::{Broken, Incoming, of_file};
use super::refusal::{Body, Refusal, full};

pub(super) async fn plain(
    head: &Parts,
    body: hyper::body::Incoming,
    segments: &[&str],
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let storage = &asked.shared.storage;
    let file = storage.plain(segments).ok_or_else(Refusal::not_found)?;
    if head.method == Method::PUT {
        let mut body = Incoming::new(body, asked.shared, &asked.fault);
        let received =
            storage.receive(&mut body, u64::MAX).await.map_err(|broken| match broken {
                Broken::Client => Refusal::Cut,
                Broken::Fault(refusal) => refusal,
            })?;
        received.keep(&file);
        return Ok(Response::new(full("")));
    }
    match File::open(&file) {
        Ok(contents) if file.is_file() => {
            let length = contents.metadata().unwrap().len();
            let answer = Response::builder().header("content-length", length);
            Ok(answer.body(of_file(contents)).unwrap())
        }
        _ => Err(Refusal::not_found()),
    }
}
