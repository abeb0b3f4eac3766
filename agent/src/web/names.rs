//! Names by which this host is asked.
//!
//! A page in somebody's browser can point a name of its own at this host's
//! address and read what is served here as if it were its own (DNS rebinding).
//! What it cannot do is have the browser say another name. So a request is
//! answered if it names an address, or this host as its own network calls it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

use crate::files;

/// Domains that nobody can register: what is in them was named here (RFC 6762,
/// RFC 8375, RFC 6761, and ICANN's for private use).
const NOBODYS: [&str; 5] = ["local", "internal", "home.arpa", "lan", "localdomain"];

/// The names that this host is asked by.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Names of the host without a domain, in lower case.
    own: Arc<[String]>,
    /// Names from the configuration, whole and in lower case.
    more: Arc<[String]>,
}

/// Host that a request is for, as far as the request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The request is for this host, or names none (before HTTP/1.1 only).
    Here,
    /// The request is for another host.
    Elsewhere,
    /// The request names a host in a way that makes no sense.
    Badly,
}

impl Names {
    /// Takes the names of a host, without their domains, and more that were configured.
    pub fn new<'a>(own: impl IntoIterator<Item = &'a str>, more: &[String]) -> Self {
        let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
        let own = own.into_iter().map(short).filter(|name| !name.is_empty()).collect();
        Self { own, more: more.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Judges whether a request is for this host. Both the request's target and its
    /// `Host` have to be, where they say so.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Named {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host),
            // Only before HTTP/1.1 is one left out, which no browser does.
            (None, _) if request.version() < Version::HTTP_11 => None,
            (None, _) | (Some(_), Some(_)) => return Named::Badly,
        };
        let host = match host.map(|host| Authority::try_from(host.as_bytes())) {
            None => None,
            Some(Ok(host)) => Some(host),
            Some(Err(_)) => return Named::Badly,
        };
        let named = request.uri().authority().into_iter().chain(&host);
        for authority in named {
            if authority.as_str().contains('@') {
                return Named::Badly;
            }
            if !self.is_own(authority.host()) {
                return Named::Elsewhere;
            }
        }
        Named::Here
    }

    fn is_own(&self, host: &str) -> bool {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.parse::<Ipv4Addr>().is_ok()
            || address.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok())
        {
            return true;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host == "localhost" || self.own.contains(&host) || self.more.contains(&host) {
            return true;
        }
        let Some((name, domain)) = host.split_once('.') else { return false };
        self.own.iter().any(|own| own == name)
            && (NOBODYS.contains(&domain) || is_of_this_network(&host, domain))
    }
}

/// Whether the host's own resolver has a name so: by its search domains, which
/// the network may have told it, or by its file of hosts. Looked up when it is
/// asked for: both may come after the agent has been started.
fn is_of_this_network(host: &str, domain: &str) -> bool {
    let read = |path: &str| {
        let text = files::read_bounded(Path::new(path)).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).to_ascii_lowercase()
    };
    searches(&read("/etc/resolv.conf"), domain) || has(&read("/etc/hosts"), host)
}

/// Whether a resolv.conf has a search domain: `search a.example b.example`, or the
/// older `domain a.example`.
fn searches(resolver: &str, domain: &str) -> bool {
    resolver.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain"))
            && words.any(|word| word.trim_end_matches('.') == domain)
    })
}

/// Whether a file of hosts has a name. A line is an address and its names; a comment after `#`.
fn has(hosts: &str, host: &str) -> bool {
    let entry = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == host)
    };
    hosts.lines().any(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(request: hyper::http::request::Builder) -> Named {
        let names = Names::new(["Joker", "host.example.net"], &["status.Example.org".into()]);
        names.judge(&request.body(()).unwrap())
    }

    fn by(host: &str) -> Named {
        judged(Request::get("/status").header(HOST, host))
    }

    #[test]
    fn addresses_and_own_names_are_served_and_no_others() {
        for own in [
            "10.0.0.1",
            "10.0.0.1:9101",
            "[::1]",
            "[fd00::1]:9101",
            "localhost",
            "LOCALHOST:9101",
            "joker",
            "JOKER.:9101",
            "host",
            "joker.local",
            "joker.home.arpa:9101",
            "status.example.org",
            "status.example.org.",
        ] {
            assert_eq!(by(own), Named::Here, "{own}");
        }
        for other in [
            "attacker.example",
            "joker.attacker.example",
            "joker.example",
            "attacker.local",
            "joker.joker",
            "localhost.attacker.example",
            "10.0.0.1.attacker.example",
            "10.0.0",
            "2130706433",
            "x.status.example.org",
            "joker.local.attacker.example",
        ] {
            assert_eq!(by(other), Named::Elsewhere, "{other}");
        }
        for nonsense in ["", "a b", "joker@10.0.0.1", "10.0.0.1/joker", "[::1", "http://joker/"] {
            assert_ne!(by(nonsense), Named::Here, "{nonsense}");
        }
    }

    #[test]
    fn target_and_header_are_judged_alike() {
        let request = |target: &str, host: &str| judged(Request::get(target).header(HOST, host));
        assert_eq!(request("http://joker:9101/status", "10.0.0.1"), Named::Here);
        assert_eq!(request("http://attacker.example/status", "joker"), Named::Elsewhere);
        assert_eq!(request("http://joker/status", "attacker.example"), Named::Elsewhere);
        assert_eq!(request("http://x@joker/status", "joker"), Named::Badly);
        let twice = Request::get("/").header(HOST, "joker").header(HOST, "attacker.example");
        assert_eq!(judged(twice), Named::Badly);
        // As HTTP/1.1 wants one.
        assert_eq!(judged(Request::get("/")), Named::Badly);
        assert_eq!(judged(Request::get("/").version(Version::HTTP_10)), Named::Here);
    }

    #[test]
    fn the_resolver_says_how_its_own_network_calls_a_host() {
        let resolver = "# from dhcp\nnameserver 10.0.0.1\nsearch fort.example other.example.\n";
        for (domain, so) in [
            ("fort.example", true),
            ("other.example", true),
            ("example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(searches(resolver, domain), so, "{domain}");
        }
        let hosts = "127.0.0.1 localhost\n127.0.0.2\tjoker.fort.example joker # joker.x\n";
        assert!(has(hosts, "joker.fort.example"));
        assert!(!has(hosts, "joker.x") && !has(hosts, "127.0.0.2"));
    }
}
