//! A stream that takes only so much from the other side.
//!
//! zbus itself would make room for a message of up to 128 MiB. Nothing that the
//! agent is told comes near a page, so a peer that sends more is cut off. File
//! descriptors are not passed.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// What a message may take, in bytes.
const MESSAGE: usize = 64 << 10;

/// A stream whose handshake is over.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: UnixStream,
    begun: Vec<u8>,
}

impl Bounded {
    /// `begun` is what was already read of the first message.
    pub(super) fn new(stream: UnixStream, begun: Vec<u8>) -> Self {
        Self { stream, begun }
    }
}

impl Socket for Bounded {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.stream.into_split();
        Split::new(Reader { read, begun: self.begun }, Writer(write))
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    read: OwnedReadHalf,
    begun: Vec<u8>,
}

#[async_trait]
impl ReadHalf for Reader {
    /// zbus asks for a whole message's rest at once, so the room it offers
    /// tells the message's size.
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if buffer.len() > MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sends too much"));
        }
        if self.begun.is_empty() {
            return Ok((self.read.read(buffer).await?, Vec::new()));
        }
        let many = buffer.len().min(self.begun.len());
        for (to, byte) in buffer.iter_mut().zip(self.begun.drain(..many)) {
            *to = byte;
        }
        Ok((many, Vec::new()))
    }
}

#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        // A peer that is gone would otherwise be written to for ever.
        match self.0.write(buffer).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
