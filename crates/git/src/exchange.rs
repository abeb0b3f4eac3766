//! One HTTP request and its answer, as the readers and the writer that gix's
//! transport wants to hold at once.
//!
//! gix writes what it posts while it already holds the readers of the answer,
//! so a post is sent when the answer is first read from. There is no second
//! thread and no pipe, as all of it happens in one.

use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::{Arc, Mutex};

use gix_transport::client::blocking_io::http::{
    GetResponse, Http as GitHttp, PostBodyDataKind, PostResponse,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::http::{Http, lock};

/// Largest request that is posted, in bytes: wants and haves, never objects.
const POST_LIMIT: usize = 16 << 20;

struct Exchange {
    http: Http,
    url: String,
    headers: HeaderMap,
    posted: Vec<u8>,
    sent: bool,
    answer: Option<HttpAnswer>,
}

/// Answer to an HTTP request.
pub(super) struct HttpAnswer {
    /// Headers as "name: value" lines.
    pub(super) headers: Cursor<Vec<u8>>,
    pub(super) body: Box<dyn BufRead + Send>,
}

impl Exchange {
    fn answer(&mut self) -> io::Result<&mut HttpAnswer> {
        if !std::mem::replace(&mut self.sent, true) {
            let headers = std::mem::take(&mut self.headers);
            let body = std::mem::take(&mut self.posted);
            self.answer = Some(self.http.exchange(&self.url, headers, Some(body))?);
        }
        self.answer.as_mut().ok_or_else(|| io::Error::other("the request failed before"))
    }
}

type Shared = Arc<Mutex<Exchange>>;

/// The headers of an answer: all that gix asks for is the content type.
pub(super) struct Headers(Shared);
/// The body of an answer.
pub(super) struct Body {
    exchange: Shared,
    reader: Option<Box<dyn BufRead + Send>>,
}
/// Body of a request that is to be posted.
pub(super) struct Post(Shared);

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).answer()?.headers.read(buffer)
    }
}

impl Body {
    fn reader(&mut self) -> io::Result<&mut Box<dyn BufRead + Send>> {
        if self.reader.is_none() {
            let mut exchange = lock(&self.exchange);
            let body = &mut exchange.answer()?.body;
            self.reader = Some(std::mem::replace(body, Box::new(io::empty())));
        }
        self.reader.as_mut().ok_or_else(|| io::Error::other("there is no answer"))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader()?.read(buffer)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(reader) = &mut self.reader {
            reader.consume(amount);
        }
    }
}

impl Write for Post {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut exchange = lock(&self.0);
        if exchange.posted.len() + bytes.len() > POST_LIMIT {
            return Err(io::Error::other("the request is too large"));
        }
        exchange.posted.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl GitHttp for Http {
    type Headers = io::BufReader<Headers>;
    type ResponseBody = Body;
    type PostBody = Post;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let answer =
            self.exchange(url, header_map(headers), None).map_err(gix::error::Error::from_error)?;
        let (headers, body, _) = split(Exchange {
            http: self.clone(),
            url: String::new(),
            headers: HeaderMap::new(),
            posted: Vec::new(),
            sent: true,
            answer: Some(answer),
        });
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let (headers, body, post_body) = split(Exchange {
            http: self.clone(),
            url: url.to_owned(),
            headers: header_map(headers),
            posted: Vec::new(),
            sent: false,
            answer: None,
        });
        Ok(PostResponse { post_body, headers, body })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result {
        Ok(())
    }
}

fn split(exchange: Exchange) -> (io::BufReader<Headers>, Body, Post) {
    let shared = Arc::new(Mutex::new(exchange));
    let headers = io::BufReader::with_capacity(128, Headers(shared.clone()));
    (headers, Body { exchange: shared.clone(), reader: None }, Post(shared))
}

/// gix's headers, "Name: value" each. Its user agent gives way to ours.
fn header_map(headers: impl IntoIterator<Item = impl AsRef<str>>) -> HeaderMap {
    headers
        .into_iter()
        .filter_map(|line| {
            let (name, value) = line.as_ref().split_once(':')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_str(value.trim()).ok()?;
            (name != reqwest::header::USER_AGENT).then_some((name, value))
        })
        .collect()
}
