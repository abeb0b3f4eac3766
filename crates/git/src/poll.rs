//! Asking a remote where its branches are, as cheaply as git allows.
//!
//! The handshake is done once; each poll after that is one `ls-refs` request
//! (gitprotocol-v2) on the same TLS connection, for the named refs only.
//! Calls block: run them where blocking is allowed.
//!
//! Over ssh there is no connection to keep ([`super::ssh`] says why): each poll
//! is a session of its own.
//!
//! What surprises: a `ref-prefix` is a prefix (`main` also brings `main2`),
//! so full names are compared here. A connection that gave an error is done
//! for: drop it and open another.

use std::collections::BTreeMap;

use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::handshake::refs::from_v2_refs;
use gix::protocol::{Command, Handshake};
use gix_transport::client::blocking_io::{Transport, TransportV2Ext as _, http};
use gix_transport::{Protocol, Service};

use super::Remote;
use super::failure::PollError;
use super::http::{Http, Pace};
use super::said::{self, Lines, OtherFormat};
use super::ssh::Ssh;
use fort_core::types::Commit;

/// Name of this agent towards the server.
pub(super) const AGENT: &str = fort_http::USER_AGENT;

/// Remote with which the handshake is done, with at most one TCP connection, which
/// dropping it ends.
pub struct Connection {
    remote: Remote,
    kind: ConnectionKind,
}

enum ConnectionKind {
    Http {
        transport: Box<http::Transport<Http>>,
        http: Http,
        handshake: Box<Handshake>,
    },
    /// Each poll spawns `ssh`.
    Ssh,
    /// Each poll spawns `git upload-pack`.
    File,
}

impl Connection {
    /// Connects, looks up names anew, and shakes hands; over ssh, [`Self::heads`]
    /// does.
    pub fn open(remote: &Remote) -> Result<Self, PollError> {
        let kind = if is_file(remote) {
            ConnectionKind::File
        } else if is_ssh(remote) {
            ConnectionKind::Ssh
        } else {
            let http = Http::new(remote, Pace::Poll)?;
            let mut transport = Box::new(over_http(remote, http.clone())?);
            let handshake = shake_hands(&mut *transport, false)
                .map_err(|e| http.failure().unwrap_or_else(|| protocol(remote, &e)))?;
            ConnectionKind::Http { transport, http, handshake: Box::new(handshake) }
        };
        Ok(Self { remote: remote.clone(), kind })
    }

    /// The commits that these refs (full names: `refs/heads/main`) are at.
    /// One that the remote lacks is absent. No names: nothing is asked.
    pub fn heads(&mut self, names: &[&str]) -> Result<BTreeMap<String, Commit>, PollError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        match &mut self.kind {
            ConnectionKind::Http { transport, http, handshake } => {
                list(&mut **transport, handshake, names)
                    .map_err(|e| http.failure().unwrap_or_else(|| protocol(&self.remote, &e)))
            }
            ConnectionKind::Ssh => {
                let url = parse_url(&self.remote)?;
                let (ssh, mut transport) = Ssh::start(&self.remote, &url, Pace::Poll)?;
                shake_hands(&mut transport, true)
                    .and_then(|hands| list(&mut transport, &hands, names))
                    .map_err(|e| ssh.failure().unwrap_or_else(|| protocol(&self.remote, &e)))
            }
            ConnectionKind::File => {
                let found = parse_url(&self.remote).and_then(|url| {
                    let mut transport = gix_transport::client::blocking_io::connect::connect(
                        url,
                        Default::default(),
                    )
                    .map_err(|e| PollError::Unreachable(self.remote.presentable(&e.to_string())))?;
                    shake_hands(&mut transport, false)
                        .and_then(|hands| list(&mut transport, &hands, names))
                        .map_err(|e| protocol(&self.remote, &e))
                })?;
                Ok(found)
            }
        }
    }
}

pub(super) fn is_file(remote: &Remote) -> bool {
    remote.url.starts_with("file://")
}

pub(super) fn is_ssh(remote: &Remote) -> bool {
    remote.url.starts_with("ssh://")
}

/// The transport of a remote that speaks HTTP.
pub(super) fn over_http(remote: &Remote, http: Http) -> Result<http::Transport<Http>, PollError> {
    Ok(http::Transport::new_http(http, parse_url(remote)?, Protocol::V2, false))
}

pub(super) fn parse_url(remote: &Remote) -> Result<gix::Url, PollError> {
    // The url itself is not repeated: it may hold the secret it should not.
    url(&remote.url).map_err(|what| PollError::Setup(format!("the url of {}: {what}", remote.name)))
}

fn url(text: &str) -> Result<gix::Url, &'static str> {
    if !["https://", "ssh://", "http://", "file://"].iter().any(|s| text.starts_with(s)) {
        return Err("only https:// and ssh:// are supported");
    }
    let url = gix::url::parse(text).map_err(|_| "not a url")?;
    if url.password().is_some() || (url.user().is_some() && url.scheme != gix::url::Scheme::Ssh) {
        return Err("put the user in username and the password in token_file");
    }
    Ok(url)
}

/// Whether a remote of this URL is polled at all, and where it says: what is asked
/// over HTTP is put together from gix's reading of it.
pub fn reads_as(text: &str, understood: &reqwest::Url) -> bool {
    let Ok(url) = url(text) else { return false };
    let place = |url: &reqwest::Url| {
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
    };
    match url.scheme {
        gix::url::Scheme::Http | gix::url::Scheme::Https => {
            let asked = reqwest::Url::parse(&url.to_bstring().to_string());
            asked.is_ok_and(|asked| place(&asked) == place(understood))
        }
        gix::url::Scheme::File
        | gix::url::Scheme::Git
        | gix::url::Scheme::Ssh
        | gix::url::Scheme::Ext
        | gix::url::Scheme::Helper(_)
        | gix::url::Scheme::HelperUrl(_) => url.scheme.as_str() == understood.scheme(),
    }
}

/// Whether a branch may be called so, without `refs/heads/`: as
/// `git check-ref-format --branch`.
pub fn is_branch_name(name: &str) -> bool {
    // These are valid as refs, but would be taken for an option and for the symbolic ref.
    let ambiguous = name.starts_with('-') || name == "HEAD";
    let full = format!("refs/heads/{name}");
    !ambiguous && gix::validate::reference::name(full.as_str().into()).is_ok()
}

/// Failure that gix reports, when it was not in the HTTP below it.
pub(super) fn protocol(remote: &Remote, error: &gix::Error) -> PollError {
    if let Some(said) = said::error_line(error) {
        return PollError::Said(remote.presentable(&said));
    }
    if let Some(OtherFormat(format)) = error.downcast_any_ref() {
        return PollError::ObjectFormat { format: remote.presentable(format) };
    }
    PollError::Protocol(remote.presentable(&words(error)))
}

/// All that an error of gix's rests on, outermost first.
pub(super) fn words(error: &gix::Error) -> String {
    let mut words: Vec<String> = error.iter_errors().map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}

/// Does the handshake. `any`: also with a server that does not speak the second
/// version, which then says all of its refs right away.
pub(super) fn shake_hands(transport: &mut impl Transport, any: bool) -> gix::Result<Handshake> {
    // Never called: a 401 is reported as such, the token was sent at once.
    let no_helper = |_| Ok(None);
    let hands =
        gix::protocol::handshake(transport, Service::UploadPack, no_helper, vec![], &mut Discard)?;
    if hands.server_protocol_version != Protocol::V2 && !any {
        return Err(gix::error::Error::from_error(std::io::Error::other(
            "the server does not speak version 2 of the protocol",
        )));
    }
    said::readable(&hands).map_err(gix::error::Error::from_error)?;
    Ok(hands)
}

/// The commits that these refs (full names) are at, by name.
pub(super) fn list(
    transport: &mut impl Transport,
    hands: &Handshake,
    names: &[&str],
) -> gix::Result<BTreeMap<String, Commit>> {
    let wanted = |refs: &[Ref]| {
        let named = refs.iter().filter_map(named);
        named.filter(|(name, _)| names.contains(&name.as_str())).collect()
    };
    if let Some(refs) = &hands.refs {
        return Ok(wanted(refs));
    }
    let command = Command::LsRefs;
    let mut features = command.default_features(Protocol::V2, &hands.capabilities);
    let mut arguments = command.initial_v2_arguments(&features);
    arguments.extend(names.iter().map(|name| format!("ref-prefix {name}").into()));
    features.push(("agent", Some(AGENT.into())));
    let answer = transport
        .invoke(command.as_str(), features.into_iter(), Some(arguments.into_iter()), false)
        .map_err(gix::error::Error::from_error)?;
    Ok(wanted(&from_v2_refs(&mut Lines(answer))?))
}

/// A ref's full name and the commit behind it.
fn named(found: &Ref) -> Option<(String, Commit)> {
    let (name, target, _) = found.unpack();
    Some((name.to_string(), commit(target?)?))
}

/// Converts gix's id; `None` for what is not SHA-1.
pub(super) fn commit(id: &gix::oid) -> Option<Commit> {
    id.as_bytes().try_into().ok().map(Commit::from_bytes)
}
