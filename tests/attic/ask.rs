//! Requests as they are, byte for byte: what comes after the half that was
//! sent is the test's business.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;

use crate::support::attic::{Attic, CACHE, Claims};

/// A server to ask, ours or a real one, with a private cache of the test's.
pub(super) struct Subject {
    address: SocketAddr,
    secret: Secret,
    /// A name that no other test uses.
    pub(super) cache: String,
    /// Made once each: they say when they were made, in seconds.
    tokens: Mutex<BTreeMap<String, String>>,
}

enum Secret {
    Ours(Attic),
    Real(Vec<u8>),
}

/// A request that is not sent yet.
pub(super) struct Ask {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
    /// Length of the body as the request states it, where it differs from the real one.
    length: Option<usize>,
}

/// Answer of the server: status, head and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Subject {
    pub(super) fn new() -> Self {
        Self::with_cache(false)
    }

    pub(super) fn public() -> Self {
        Self::with_cache(true)
    }

    fn with_cache(is_public: bool) -> Self {
        let (address, secret) = match std::env::var("FORT_AGENT_ATTIC") {
            Ok(address) => {
                let file = std::env::var("FORT_AGENT_ATTIC_SECRET").unwrap();
                let text = std::fs::read_to_string(file).unwrap();
                let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
                (address.parse().unwrap(), Secret::Real(decoded.unwrap()))
            }
            Err(_) => {
                let attic = Attic::start();
                (attic.address(), Secret::Ours(attic))
            }
        };
        let cache = format!("test-{}", unique());
        let subject = Self { address, secret, cache, tokens: Mutex::default() };
        let made = subject.create(&subject.cache, is_public).bearer(&subject.token(&["cc"])).send();
        assert_eq!((made.status, made.text()), (200, String::new()));
        subject
    }

    /// Of ours, with the cache that it has.
    pub(super) fn of(attic: Attic) -> Self {
        let address = attic.address();
        let (secret, cache) = (Secret::Ours(attic), CACHE.into());
        Self { address, secret, cache, tokens: Mutex::default() }
    }

    pub(super) fn ours(&self) -> &Attic {
        let Secret::Ours(attic) = &self.secret else { panic!("only ours tells") };
        attic
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self.secret, Secret::Ours(_))
    }

    /// Where Nix finds its cache.
    pub(super) fn substituter(&self) -> String {
        format!("http://{}/{}", self.address, self.cache)
    }

    pub(super) fn token(&self, bits: &[&str]) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let make = || self.sign(&Claims::new(&self.cache, bits));
        tokens.entry(bits.concat()).or_insert_with(make).clone()
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        match &self.secret {
            Secret::Ours(attic) => attic.sign(claims),
            Secret::Real(secret) => claims.sign(secret),
        }
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::of(self.address, method, path)
    }

    pub(super) fn config(&self, cache: &str) -> Ask {
        self.ask("GET", &format!("/_api/v1/cache-config/{cache}"))
    }

    pub(super) fn create(&self, cache: &str, is_public: bool) -> Ask {
        self.create_with_key(cache, is_public, &"Generate".into())
    }

    pub(super) fn create_with_key(
        &self,
        cache: &str,
        is_public: bool,
        keypair: &serde_json::Value,
    ) -> Ask {
        let body = serde_json::json!({"keypair": keypair, "is_public": is_public,
            "store_dir": "/nix/store", "priority": 41, "upstream_cache_key_names": ["up-1"]});
        self.ask("POST", &format!("/_api/v1/cache-config/{cache}")).json(&body.to_string())
    }

    pub(super) fn change(&self, cache: &str, change: &serde_json::Value) -> Ask {
        self.ask("PATCH", &format!("/_api/v1/cache-config/{cache}")).json(&change.to_string())
    }

    pub(super) fn missing(&self, cache: &str, hashes: &[String]) -> Ask {
        let body = serde_json::json!({"cache": cache, "store_path_hashes": hashes});
        self.ask("POST", "/_api/v1/get-missing-paths").json(&body.to_string())
    }

    /// An upload with its information in a header.
    pub(super) fn upload(&self, info: &serde_json::Value, nar: &[u8]) -> Ask {
        let ask = self.ask("PUT", "/_api/v1/upload-path");
        ask.header("X-Attic-Nar-Info", &info.to_string()).body(nar)
    }

    /// An upload with its information in front of its body.
    pub(super) fn upload_with_preamble(&self, info: &serde_json::Value, nar: &[u8]) -> Ask {
        let info = info.to_string();
        let ask = self.ask("PUT", "/_api/v1/upload-path");
        ask.header("X-Attic-Nar-Info-Preamble-Size", &info.len().to_string())
            .body(&[info.as_bytes(), nar].concat())
    }
}

impl Ask {
    pub(super) fn of(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        Self { address, head, body: Vec::new(), length: None }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(super) fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body.as_bytes())
    }

    pub(super) fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    /// Makes the request state this length of its body, whatever it is.
    pub(super) fn announcing(self, length: usize) -> Self {
        Self { length: Some(length), ..self }
    }

    /// Sends all of it and reads what comes. After a body that is shorter than
    /// announced nothing more is sent, ever.
    pub(super) fn send(self) -> Answer {
        self.try_send().expect("an answer")
    }

    /// The same where there may be none.
    pub(super) fn try_send(self) -> Option<Answer> {
        let mut stream = self.connect();
        let length = self.length.unwrap_or(self.body.len());
        let head = format!("{}Content-Length: {length}\r\n\r\n", self.head);
        // What is written after the answer came may find nobody.
        let _ = stream.write_all(&[head.as_bytes(), &self.body].concat());
        if length > self.body.len() {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        Answer::read(stream)
    }

    /// Sends the head alone, and reads what comes to that.
    pub(super) fn send_head(self, length: usize) -> Answer {
        let mut stream = self.connect();
        let head = format!("{}Content-Length: {length}\r\n\r\n", self.head);
        stream.write_all(head.as_bytes()).unwrap();
        Answer::read(stream).expect("an answer")
    }

    /// Sends half of its body, and waits for what comes to that.
    pub(super) fn send_half(self) -> Option<Answer> {
        let mut stream = self.connect();
        let head = format!("{}Content-Length: {}\r\n\r\n", self.head, self.body.len());
        let half = &self.body[..self.body.len() / 2];
        stream.write_all(&[head.as_bytes(), half].concat()).unwrap();
        Answer::read(stream)
    }

    /// Sends its body in chunks of this length.
    pub(super) fn send_chunked(self, length: usize) -> Answer {
        let mut stream = self.connect();
        let head = format!("{}Transfer-Encoding: chunked\r\n\r\n", self.head);
        let mut message = head.into_bytes();
        for chunk in self.body.chunks(length) {
            message.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            message.extend([chunk, b"\r\n"].concat());
        }
        message.extend(b"0\r\n\r\n");
        let _ = stream.write_all(&message);
        Answer::read(stream).expect("an answer")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Answer {
    fn read(mut stream: TcpStream) -> Option<Self> {
        let mut message = Vec::new();
        let mut piece = [0; 65536];
        // A connection that is reset has said what it had to say before.
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            message.extend(&piece[..read]);
        }
        let end = message.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8(message[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1)?.parse().unwrap();
        let mut body = message[end + 4..].to_vec();
        if head.contains("\r\ntransfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Some(Self { status, head, body })
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The contents in a body of zstd, if nothing of it is compressed: only a
    /// real server compresses.
    pub(super) fn contents(&self) -> Option<Vec<u8>> {
        let mut left = self.body.strip_prefix(b"\x28\xb5\x2f\xfd").expect("zstd");
        left = left.strip_prefix(b"\x00\x38")?;
        let mut contents = Vec::new();
        loop {
            let (head, rest) = left.split_first_chunk::<3>()?;
            let head = u32::from_le_bytes([head[0], head[1], head[2], 0]);
            let (is_last, kind, length) = (head & 1 == 1, head >> 1 & 3, (head >> 3) as usize);
            contents.extend((kind == 0).then(|| rest.get(..length)).flatten()?);
            left = &rest[length..];
            if is_last {
                return left.is_empty().then_some(contents);
            }
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// An error of Attic's own: its status, its name, and its words.
    pub(super) fn error(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(json["code"], self.status);
        assert_eq!(json.as_object().unwrap().len(), 3, "{json}");
        let field = |name: &str| json[name].as_str().unwrap().to_owned();
        (self.status, field("error"), field("message"))
    }

    /// An error of the framework's: its status and its words.
    pub(super) fn plain_error(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
        (self.status, self.text())
    }
}

/// As far as it goes.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        let rest = &body[end + 2..];
        whole.extend(&rest[..length.min(rest.len())]);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// Of 32 letters that Nix would use.
pub(super) fn unique() -> String {
    let mut bytes = [0; 20];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    nix_base32::to_nix_base32(&bytes)
}

/// Metadata of a path with these contents, which no other test sends.
pub(super) fn info(cache: &str, nar: &[u8]) -> serde_json::Value {
    let hash = unique();
    let digest = ring::digest::digest(&ring::digest::SHA256, nar);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({"cache": cache, "store_path_hash": hash,
        "store_path": format!("/nix/store/{hash}-thing"), "references": [], "system": null,
        "deriver": null, "sigs": [], "ca": null,
        "nar_hash": format!("sha256:{hex}"), "nar_size": nar.len()})
}

/// So many bytes that no other test sends.
pub(super) fn contents(length: usize) -> Vec<u8> {
    unique().into_bytes().into_iter().cycle().take(length).collect()
}
