//! Asking over HTTP as simply as can be: one request, one connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any answer takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The code and the body. HTTP/1.0, so that no body comes in pieces.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((code, body.to_owned()))
}

/// A program that `tests/setup PART` sees to: from the path, or from where it
/// unpacks what it does not install.
pub(crate) fn needed(program: &str, part: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from);
    let cache = std::env::var_os("CACHE").map_or(cache.join("fort-agent"), PathBuf::from);
    std::env::split_paths(&path)
        .chain([cache.join("tools/bin")])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{program} is not on this machine: run `make test`, or `sh tests/setup {part}`")
        })
}
