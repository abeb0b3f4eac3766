//! Where a URL leads: whether a request to it leaves this host.

/// Whether everybody on the way to a URL can read what is sent there, and change
/// what comes back.
pub fn in_clear(url: &str) -> bool {
    is_http(url) && !is_local(url)
}

/// Whether a URL must not be asked through a proxy: what is not encrypted because
/// it stays on this host would then leave it.
pub fn stays_here(url: &str) -> bool {
    is_http(url) && is_local(url)
}

fn is_http(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http")
}

fn is_local(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
