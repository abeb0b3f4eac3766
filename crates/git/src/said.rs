//! Reports of a server on itself, and not by a status of HTTP: a line of its own that
//! the request fails with, and what its repository's objects are named by.
//!
//! The line is a packet `ERR` and text (gitprotocol-pack(5)), at any place of an
//! answer. Of a handshake gix hands it on inside of an I/O error; in a list of refs it
//! would read it as one of them, so that is read through [`Lines`]. The names' format is
//! a capability, `object-format` (gitprotocol-capabilities(5)), and sha1 where there is
//! none.

use std::io::{self, BufRead, Read};

use gix::protocol::Handshake;
use gix_transport::client::blocking_io::ReadlineBufRead;
use gix_transport::packetline::PacketLineRef;
use gix_transport::packetline::read::Error as ErrorLine;

/// The lines of an answer, which fail with the server's own line where there is one.
pub(super) struct Lines<R>(pub(super) R);

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> BufRead for Lines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl<R: ReadlineBufRead> ReadlineBufRead for Lines<R> {
    fn readline(&mut self) -> Option<io::Result<gix::Result<PacketLineRef<'_>>>> {
        let line = self.0.readline()?;
        if let Ok(Ok(line)) = &line
            && let Some(said) = line.check_error()
        {
            let message = said.0.trim_ascii().into();
            return Some(Err(io::Error::other(ErrorLine { message })));
        }
        Some(line)
    }

    fn readline_str(&mut self, line: &mut String) -> io::Result<usize> {
        self.0.readline_str(line)
    }
}

/// Objects in a repository that are named by something else than SHA-1.
#[derive(Debug, thiserror::Error)]
#[error("the repository's objects are named by {0}")]
pub(super) struct OtherFormat(pub(super) String);

/// The server's own line, if an error came of one.
pub(super) fn error_line(error: &gix::Error) -> Option<String> {
    error.iter_errors().find_map(|error| {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let wrapped = inner.and_then(|inner| inner.downcast_ref::<ErrorLine>());
        let line = error.downcast_ref::<ErrorLine>().or(wrapped)?;
        Some(line.message.to_string())
    })
}

/// Fails where this agent could not read one object.
pub(super) fn readable(hands: &Handshake) -> Result<(), OtherFormat> {
    let format = hands.capabilities.capability("object-format");
    let format = format.and_then(|format| format.value().map(ToString::to_string));
    match format {
        Some(format) if format != "sha1" => Err(OtherFormat(format)),
        Some(_) | None => Ok(()),
    }
}
