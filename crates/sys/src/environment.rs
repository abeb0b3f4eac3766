//! Environment variables that the agent hands on: to its jobs, to the process that
//! fetches, and to Nix. Nothing else is inherited anywhere.
//!
//! The lists are here together, so that none of them loses what another has. The
//! URL of a proxy may hold a password. Its variables go into the environment of a
//! process, which only its own user can read; never into the properties of a unit,
//! which systemd shows to everybody, nor into a job's specification.

use std::ffi::{OsStr, OsString};

use crate::crash;

/// Variables that name proxies, as libcurl and reqwest know them: the second spelling is
/// for those that know only that one.
const PROXIES: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    EXCEPTIONS,
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];
/// Variable that lists the hosts to ask without a proxy.
const EXCEPTIONS: &str = "no_proxy";

/// Variable that names the certificates HTTPS trusts: for Nix, and for the agent itself.
const NIX_TRUSTS: &str = "NIX_SSL_CERT_FILE";
const TRUSTED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Names and addresses of this host by which requests are made to it.
const HERE: &str = "127.0.0.1,::1,localhost";

/// Names of variables with their values.
pub type Variables = Vec<(&'static str, OsString)>;

/// Returns the variables of a job that everybody may see.
pub fn public_of_job() -> Variables {
    let own = ["PATH", "LOCALE_ARCHIVE", "FORT_AGENT_LOG", "TZDIR", NIX_TRUSTS];
    present(own.iter().chain(&TRUSTED).chain(crash::HANDED_ON).copied())
}

/// Returns the variables of a job that only root may see.
pub fn secret_of_job() -> Variables {
    present(PROXIES)
}

/// Returns the environment of the process that fetches: where git is (for `file://`) and
/// ssh, how to reach the network, whom to trust.
pub fn of_fetch() -> Variables {
    let own = ["PATH", "TMPDIR", "RUST_BACKTRACE"];
    present(own.iter().chain(&TRUSTED).chain(&PROXIES).copied())
}

/// Returns the variables that Nix gets besides those it is given: where its certificates
/// are, and the proxies, but not for this host. Requests to a cache here are not
/// encrypted.
pub fn of_nix() -> Variables {
    let mut variables = present([NIX_TRUSTS]);
    variables.extend(but_not_for_this_host(present(PROXIES)));
    variables
}

fn present(names: impl IntoIterator<Item = &'static str>) -> Variables {
    names.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

fn but_not_for_this_host(mut proxies: Variables) -> Variables {
    let is_exception = |name: &str| name.eq_ignore_ascii_case(EXCEPTIONS);
    // libcurl looks at the lower case first.
    let exceptions = proxies.iter().find(|(name, _)| is_exception(name));
    let mut all = exceptions.map(|(_, value)| value.clone()).unwrap_or_default();
    proxies.retain(|(name, _)| !is_exception(name));
    let used = !proxies.is_empty();
    // That is: none at all.
    if used && all != OsStr::new("*") {
        all.push(if all.is_empty() { "" } else { "," });
        all.push(HERE);
    }
    if used {
        proxies.extend([(EXCEPTIONS, all.clone()), ("NO_PROXY", all)]);
    }
    proxies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(of: &[(&'static str, &str)]) -> Variables {
        of.iter().map(|(name, value)| (*name, value.into())).collect()
    }

    #[test]
    fn what_stays_on_this_host_goes_through_no_proxy() {
        let proxy = ("https_proxy", "http://user:password@proxy:8080");
        let with = |exceptions: &[(&'static str, &str)]| {
            let all: Vec<_> = [proxy].iter().chain(exceptions).copied().collect();
            let given = but_not_for_this_host(variables(&all));
            assert_eq!(given[0], (proxy.0, proxy.1.into()));
            assert_eq!(given[1].1, given[2].1, "both spellings say the same");
            assert_eq!((given[1].0, given[2].0), ("no_proxy", "NO_PROXY"));
            given[1].1.clone().into_string().unwrap()
        };
        assert_eq!(with(&[]), HERE);
        assert_eq!(with(&[("NO_PROXY", ".lan")]), format!(".lan,{HERE}"));
        assert_eq!(with(&[("no_proxy", "a"), ("NO_PROXY", "b")]), format!("a,{HERE}"));
        assert_eq!(with(&[("no_proxy", "*")]), "*");
        assert_eq!(but_not_for_this_host(variables(&[("no_proxy", "a")])), []);
        assert_eq!(but_not_for_this_host(Vec::new()), []);
    }
}
