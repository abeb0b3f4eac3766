//! How Attic says no. Its own errors are JSON; those of the framework below it
//! are plain text; and what a proxy says is a page.

use std::convert::Infallible;
use std::io;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// An answer that is none of those asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Attic's own, by the name and the words it has for it.
    Attic(u16, &'static str, String),
    /// A refusal by the web framework, as plain text.
    Text(u16, String),
    /// A refusal by a proxy, as a page with this title.
    Page(u16, &'static str),
    /// 405, with nothing in it.
    Method(&'static str),
    /// No answer: the connection ends.
    Cut,
}

impl Refusal {
    pub(super) fn not_found() -> Self {
        Self::Attic(404, "NotFound", "The URL you requested was not found.".into())
    }

    pub(super) fn unauthorized() -> Self {
        Self::Attic(401, "Unauthorized", "Unauthorized.".into())
    }

    pub(super) fn access() -> Self {
        let why = "Access error: User does not have permission to complete this action.";
        Self::Attic(403, "AccessError", why.into())
    }

    pub(super) fn no_such_cache() -> Self {
        Self::Attic(404, "NoSuchCache", "The requested cache does not exist.".into())
    }

    pub(super) fn no_such_object() -> Self {
        Self::Attic(404, "NoSuchObject", "The requested object does not exist.".into())
    }

    pub(super) fn cache_exists() -> Self {
        Self::Attic(400, "CacheAlreadyExists", "The cache already exists.".into())
    }

    pub(super) fn incomplete() -> Self {
        let why = "The requested NAR has missing chunks and needs to be repaired.";
        Self::Attic(503, "IncompleteNar", why.into())
    }

    /// Returns the refusal for any failure of the server's database or storage.
    pub(super) fn internal() -> Self {
        Self::status(500)
    }

    /// The same with another status, as no Attic says it.
    pub(super) fn status(status: u16) -> Self {
        let why = "The server encountered an internal error or misconfiguration.";
        Self::Attic(status, "InternalServerError", why.into())
    }

    /// Returns the refusal of a request that is wrong in form.
    pub(super) fn request(why: impl std::fmt::Display) -> Self {
        Self::Attic(400, "RequestError", format!("General request error: {why}"))
    }

    /// The status that it is answered with; 0 if it is not.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Attic(code, ..) | Self::Text(code, _) | Self::Page(code, _) => *code,
            Self::Method(_) => 405,
            Self::Cut => 0,
        }
    }

    pub(super) fn answer(self) -> io::Result<Response<Body>> {
        let (status, kind, body) = match self {
            Self::Attic(code, error, message) => {
                let body = serde_json::json!({"code": code, "error": error, "message": message});
                (code, "application/json", body.to_string())
            }
            Self::Text(status, text) => (status, "text/plain; charset=utf-8", text),
            Self::Page(status, title) => {
                let body = format!(
                    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
                     <center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n\
                     </body>\r\n</html>\r\n"
                );
                (status, "text/html", body)
            }
            Self::Method(allowed) => {
                let refusal = Response::builder().status(405).header("allow", allowed);
                return Ok(refusal.body(full("")).unwrap());
            }
            Self::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(full(body))
            .unwrap())
    }
}

pub(super) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub(super) fn json(value: &impl serde::Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).unwrap();
    Response::builder().header("content-type", "application/json").body(full(body)).unwrap()
}
