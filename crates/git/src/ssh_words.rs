//! Meaning of the ssh program's last words.
//!
//! ssh has one exit status for all of its failures (255); what it was is only
//! in its messages, which are not translated. One that is not known is passed
//! on as it is.

use super::Remote;
use super::failure::PollError;
use fort_core::plain::one_line;

/// The failure behind a session that ended. `own`: it was ssh that failed, and
/// not the program on the far side.
pub(super) fn in_words(said: &str, own: bool, remote: &Remote) -> PollError {
    let has = |words: &str| said.contains(words);
    let known_hosts = || remote.known_hosts.clone().unwrap_or_default();
    let key = || remote.ssh_key_file.clone().unwrap_or_default();
    if has("HOST IDENTIFICATION HAS CHANGED") || has("host key mismatch") {
        return PollError::HostKeyChanged { file: known_hosts() };
    }
    if has("Host key verification failed") {
        return PollError::HostKeyUnknown { file: known_hosts() };
    }
    if has("bad permissions") {
        let key = key();
        let what = format!("ssh does not use the key {}: let nobody else read it", key.display());
        return PollError::Setup(what);
    }
    if has("error in libcrypto") || has("invalid format") {
        return PollError::Setup(format!("{} is not a key that ssh can read", key().display()));
    }
    if has("Permission denied (") || has("Too many authentication failures") {
        return PollError::KeyRefused { file: key() };
    }
    let lost =
        ["does not appear to be a git repository", "does not exist", "Cannot find repository"];
    if !own && lost.iter().any(|words| has(words)) {
        return PollError::NoRepository;
    }
    // The last line says why; those before it, that it is about a connection.
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last = last.split_once(": ").filter(|(ssh, _)| *ssh == "ssh").map_or(last, |(_, l)| l);
    match (own, last.is_empty()) {
        (true, true) => PollError::Unreachable("the connection was closed".into()),
        (true, false) => PollError::Unreachable(one_line(last)),
        (false, true) => PollError::Protocol("the far side ended early".into()),
        (false, false) => PollError::Protocol(one_line(&format!("the far side says: {last}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            name: "origin".into(),
            url: "ssh://git@h/r".into(),
            username: String::new(),
            token_file: None,
            ca_file: None,
            ssh_key_file: Some("/key".into()),
            known_hosts: Some("/hosts".into()),
            timeout: std::time::Duration::from_secs(1),
        }
    }

    #[test]
    fn what_ssh_says_is_told_apart_by_what_to_do() {
        for (said, own, told) in [
            ("", true, "unreachable: the connection was closed"),
            (
                "ssh: connect to host h port 22: Connection refused\n",
                true,
                "unreachable: connect to host h port 22: Connection refused",
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known\r\n",
                true,
                "unreachable: Could not resolve hostname h: Name or service not known",
            ),
            (
                "Load key \"/key\": bad permissions\ngit@h: Permission denied (publickey).\n",
                true,
                "ssh does not use the key /key: let nobody else read it",
            ),
            (
                "git@h: Permission denied (publickey).\n",
                true,
                "the forge does not accept the key in /key: give its public half access to the \
                 repository",
            ),
            (
                "bash: line 1: git-upload-pack: command not found\n",
                false,
                "git protocol: the far side says: bash: line 1: git-upload-pack: command not found",
            ),
            (
                "Forgejo: Cannot find repository: a/b\nrepository does not exist\n",
                false,
                "there is no such repository, or the key may not see it: check the url",
            ),
            ("\u{1b}[31mwhat\n", false, "git protocol: the far side says:  [31mwhat"),
        ] {
            assert_eq!(in_words(said, own, &remote()).to_string(), told, "{said}");
        }
    }
}
