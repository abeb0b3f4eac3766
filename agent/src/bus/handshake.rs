//! The server's side of the D-Bus handshake (SASL, mechanism EXTERNAL).
//!
//! Our own and not zbus's: that one panics on an empty line and holds whatever is sent
//! before a line ends. The user on the other side is known from the kernel before this
//! begins; the peer only has to name that user. File descriptors are never agreed on.
//!
//! Source: D-Bus specification, "Authentication Protocol".

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest handshake, in bytes: a few short lines.
const MOST_BYTES: usize = 4096;

/// Runs the handshake until the peer has begun to speak D-Bus; returns what it has
/// already said of it. `guid` names this server, in 32 hexadecimal digits.
pub(super) async fn handshake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    uid: u32,
    guid: &str,
) -> io::Result<Vec<u8>> {
    let mut state = HandshakeState::Auth;
    let mut taken = 0;
    let mut held: Vec<u8> = Vec::new();
    loop {
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            let first = taken == 0;
            taken += line.len();
            let line = text(&line, first).ok_or_else(|| invalid("it does not speak SASL"))?;
            match answer(&mut state, line, uid) {
                Some(reply) => stream.write_all(reply.line(guid).as_bytes()).await?,
                None => return Ok(held),
            }
        }
        if taken + held.len() >= MOST_BYTES {
            return Err(invalid("its handshake does not end"));
        }
        let mut some = [0; 512];
        match stream.read(&mut some).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => held.extend(&some[..read]),
        }
    }
}

/// Command that the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakeState {
    Auth,
    Data,
    Begin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Rejected,
    Data,
    Ok,
    Error,
}

impl Reply {
    fn line(self, guid: &str) -> String {
        match self {
            Self::Rejected => "REJECTED EXTERNAL\r\n".into(),
            Self::Data => "DATA\r\n".into(),
            Self::Ok => format!("OK {guid}\r\n"),
            Self::Error => "ERROR\r\n".into(),
        }
    }
}

/// Returns a line without its end; the very first byte of all is a zero.
fn text(line: &[u8], first: bool) -> Option<&str> {
    let line = line.strip_suffix(b"\r\n")?;
    let line = if first { line.strip_prefix(b"\0")? } else { line };
    std::str::from_utf8(line).ok().filter(|line| line.is_ascii())
}

/// Answers a line of the peer; `None` when the handshake is over.
fn answer(state: &mut HandshakeState, line: &str, uid: u32) -> Option<Reply> {
    let mut words = line.split(' ');
    let command = words.next().unwrap_or_default();
    let (reply, next) = match (command, *state) {
        ("BEGIN", HandshakeState::Begin) => return None,
        ("AUTH", HandshakeState::Auth) => match (words.next(), words.next()) {
            (Some("EXTERNAL"), None) => (Reply::Data, HandshakeState::Data),
            (Some("EXTERNAL"), Some(name)) => judged(name, uid),
            (_, _) => (Reply::Rejected, HandshakeState::Auth),
        },
        ("DATA", HandshakeState::Data) => judged(words.next().unwrap_or_default(), uid),
        ("CANCEL" | "ERROR", _) => (Reply::Rejected, HandshakeState::Auth),
        (_, state) => (Reply::Error, state),
    };
    *state = next;
    Some(reply)
}

/// Judges the name of a user. An empty name leaves it to the kernel. Otherwise it is
/// the user's number in decimal digits, each as the hexadecimal of its ASCII code.
fn judged(name: &str, uid: u32) -> (Reply, HandshakeState) {
    let expected: String = uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    if name.is_empty() || name == expected {
        (Reply::Ok, HandshakeState::Begin)
    } else {
        (Reply::Rejected, HandshakeState::Auth)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "00112233445566778899aabbccddeeff";

    /// Returns the server's answers, and how it ended; the peer says no more than `sent`.
    async fn after(sent: &[u8]) -> (String, io::Result<Vec<u8>>) {
        let (mut peer, mut stream) = tokio::io::duplex(64 << 10);
        peer.write_all(sent).await.unwrap();
        peer.shutdown().await.unwrap();
        let ended = handshake(&mut stream, 0, GUID).await;
        drop(stream);
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        (said, ended)
    }

    #[tokio::test]
    async fn what_follows_the_handshake_is_kept() {
        let ok = format!("OK {GUID}\r\n");
        let (said, ended) = after(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\nl\x01\n").await;
        assert_eq!((said, ended.unwrap()), (ok.clone(), b"l\x01\n".to_vec()));
        // As systemd's tools begin.
        let (said, ended) =
            after(b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n").await;
        assert_eq!((said, ended.unwrap()), (format!("DATA\r\n{ok}ERROR\r\n"), vec![]));
    }

    #[tokio::test]
    async fn another_name_or_mechanism_is_rejected() {
        for begin in ["AUTH EXTERNAL 31", "AUTH ANONYMOUS", "AUTH", "AUTH EXTERNAL x", "CANCEL"] {
            let (said, ended) = after(format!("\0{begin}\r\nBEGIN\r\n").as_bytes()).await;
            assert_eq!(said, "REJECTED EXTERNAL\r\nERROR\r\n", "{begin}");
            assert!(ended.is_err(), "{begin}");
        }
    }

    #[tokio::test]
    async fn nonsense_ends_it() {
        let long = [b"\0".as_slice(), &[b'x'; 8192]].concat();
        let many = [b"\0AUTH\r\n".as_slice(), &b"AUTH\r\n".repeat(2000)].concat();
        for sent in
            [b"".as_slice(), b"\n", b"\0\n", b"AUTH\r\n", b"\0\xff\xfe\r\n", &long, &many, b"\0"]
        {
            assert!(after(sent).await.1.is_err(), "{sent:?}");
        }
    }
}
