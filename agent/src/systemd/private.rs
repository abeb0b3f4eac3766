//! systemd's own socket, made fit for zbus.
//!
//! With no bus between there are no unique names, and systemd gives
//! `org.freedesktop.systemd1` as the sender of all that it says. The D-Bus
//! specification has a unique name there, and zbus ends a connection over any
//! other. So what systemd says passes through here, and the name of the sender,
//! which nobody needs, is replaced by one of the same length.

use std::io;
use std::path::Path;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::UnixStream;
use zbus::Connection;

/// Larger than the list of ten thousand units.
const MOST_BYTES: usize = 16 << 20;
/// Larger than any line of the handshake.
const LONGEST_LINE: u64 = 1024;

/// The fixed part of a message.
const START: usize = 16;
/// The field SENDER, a string of 24 bytes: as systemd writes it, after the
/// length, and what stands in for that.
const SENDER: &[u8] = b"\x07\x01s\0";
const NAME: &[u8] = b"org.freedesktop.systemd1\0";
const STAND_IN: &[u8] = b":org.freedesktop.systemd\0";

/// Connects to the systemd of the host whose paths begin with `root`.
pub(super) async fn connect(root: &Path) -> zbus::Result<Connection> {
    let systemd = UnixStream::connect(root.join("run/systemd/private")).await?;
    let (near, far) = UnixStream::pair()?;
    // It ends when either side does: with the connection.
    tokio::spawn(relay(systemd, far));
    zbus::connection::Builder::unix_stream(near.into_std()?).p2p().build().await
}

async fn relay(mut systemd: UnixStream, mut client: UnixStream) {
    let (from_systemd, mut to_systemd) = systemd.split();
    let (mut from_client, to_client) = client.split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_systemd) => {}
        _ = rename(BufReader::new(from_systemd), to_client) => {}
    }
}

async fn rename(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    // To AUTH and to NEGOTIATE_UNIX_FD; to BEGIN there is no answer.
    for _ in 0..2 {
        let mut line = Vec::new();
        (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
        to.write_all(&line).await?;
    }
    loop {
        let mut message = vec![0; START];
        from.read_exact(&mut message).await?;
        let (fields, body) = lengths(&message).ok_or(io::ErrorKind::InvalidData)?;
        message.resize(START + fields + body, 0);
        from.read_exact(&mut message[START..]).await?;
        rename_sender(&mut message[START..START + fields]);
        to.write_all(&message).await?;
    }
}

/// How long a message's fields are, with the padding after them, and its body.
fn lengths(start: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| {
        let bytes: [u8; 4] = start.get(at..at + 4)?.try_into().ok()?;
        let number = match start.first()? {
            b'l' => u32::from_le_bytes(bytes),
            b'B' => u32::from_be_bytes(bytes),
            _ => return None,
        };
        usize::try_from(number).ok().filter(|length| *length <= MOST_BYTES)
    };
    Some((number(12)?.next_multiple_of(8), number(4)?))
}

/// Each field begins at a multiple of eight bytes. Strings hold no NUL, so
/// nothing else in them looks like this field.
fn rename_sender(fields: &mut [u8]) {
    let mut at = 0;
    while let Some(field) = fields.get_mut(at..) {
        if let Some(name) = field.get_mut(8..8 + NAME.len())
            && name == NAME
            && field.starts_with(SENDER)
        {
            field[8..8 + NAME.len()].copy_from_slice(STAND_IN);
            return;
        }
        at += 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of systemd 257, as it was on the wire.
    const ANSWER: &[u8] = b"l\x03\x01\x01'\0\0\0\x01\0\0\0g\0\0\0\x05\x01u\0\x01\0\0\0\x04\x01s\0#\0\0\0\
        org.freedesktop.systemd1.NoSuchUnit\0\0\0\0\0\x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\
        \0\0\0\0\0\0\0\x08\x01g\0\x01s\0\0\"\0\0\0Unit takes-one.service not loaded.\0";

    fn passed(said: &[u8]) -> (Vec<u8>, io::Error) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut heard = Vec::new();
        let end = runtime.block_on(rename(BufReader::new(said), &mut heard)).unwrap_err();
        (heard, end)
    }

    #[test]
    fn the_sender_and_nothing_else_is_renamed() {
        assert_eq!(NAME.len(), STAND_IN.len());
        let lines = b"OK 0123\r\nAGREE_UNIX_FD\r\n";
        let (heard, end) = passed(&[lines, ANSWER, ANSWER].concat());
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(heard[..lines.len()], *lines);
        for answer in heard[lines.len()..].chunks(ANSWER.len()) {
            assert_eq!((&ANSWER[80..105], &answer[80..105]), (NAME, STAND_IN));
            assert_eq!((&answer[..80], &answer[105..]), (&ANSWER[..80], &ANSWER[105..]));
        }
    }

    #[test]
    fn what_is_no_message_ends_it() {
        let lines = b"OK 0123\r\nERROR\r\n";
        for no_message in [
            &b"x\x03\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0"[..],
            b"l\x03\x01\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
            b"l\x03\x01\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\x7f",
        ] {
            let (heard, end) = passed(&[lines, no_message].concat());
            assert_eq!((heard, end.kind()), (lines.to_vec(), io::ErrorKind::InvalidData));
        }
        let (heard, _) = passed(&[b'x'; 5000]);
        assert!(heard.len() <= 2048);
    }
}
