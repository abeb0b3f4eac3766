//! A stream that hands on what may be taken, and reads past the rest.
//!
//! What is held at a time is at most a head and one read more, whatever a peer
//! sends: the room for a body is made by zbus, which asks for it after it was told
//! a length that is within bounds.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

use super::Takes;
use super::message::{Fate, Lengths, START, cut_off_body, rename_systemd};

/// Bytes that are read at a time at least, if they are there.
const READ: usize = 16 << 10;
/// The longest line of a handshake, in bytes.
const LINE: usize = 1024;
/// How long the other side may take nothing of what it is sent. A bus takes
/// nothing from who has more under way than it may have: answers, say, to one
/// who asks and never reads.
const TAKEN: Duration = Duration::from_secs(10);

/// Peer on the other side of a stream.
#[derive(Debug)]
pub(super) enum Peer {
    /// A message bus, which passes on what others send.
    Bus,
    /// A server on a socket of its own.
    Server,
    /// systemd, a server on a socket of its own: what it calls itself has to be changed.
    Systemd,
    /// A client that is served, and what it has already said after the handshake.
    Client { begun: Vec<u8> },
}

/// A stream to be made a connection of.
#[derive(Debug)]
pub(super) struct Stream {
    stream: UnixStream,
    peer: Peer,
    takes: Takes,
}

impl Stream {
    pub(super) fn new(stream: UnixStream, peer: Peer, takes: Takes) -> Self {
        Self { stream, peer, takes }
    }
}

impl Socket for Stream {
    type ReadHalf = Reader<OwnedReadHalf>;
    type WriteHalf = Writer;

    fn split(self) -> Split<Self::ReadHalf, Self::WriteHalf> {
        let (read, write) = self.stream.into_split();
        let writer = Writer { write, patience: TAKEN };
        Split::new(Reader::new(read, self.peer, self.takes), writer)
    }
}

/// Part that comes next in the stream.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The answer to AUTH; all else that a client says in its handshake gets
    /// none.
    Line,
    Message,
    /// Rest of a body that is taken, in bytes.
    Body(usize),
    /// Rest of what is read past, in bytes.
    Past(usize),
}

/// The half that is read from. Never says that it passes file descriptors on,
/// so zbus does not ask for any.
#[derive(Debug)]
pub(super) struct Reader<R> {
    read: R,
    takes: Takes,
    systemd: bool,
    next: Next,
    /// Bytes that were read, and not looked at.
    held: Vec<u8>,
    /// Bytes that are handed on before anything else.
    ready: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(read: R, peer: Peer, takes: Takes) -> Self {
        let systemd = matches!(peer, Peer::Systemd);
        let (next, held) = match peer {
            Peer::Bus | Peer::Server | Peer::Systemd => (Next::Line, Vec::new()),
            Peer::Client { begun } => (Next::Message, begun),
        };
        Self { read, takes, systemd, next, held, ready: Vec::new() }
    }

    /// Reads on. False at the end of the stream.
    async fn more(&mut self) -> io::Result<bool> {
        self.held.reserve(READ);
        Ok(self.read.read_buf(&mut self.held).await? > 0)
    }

    /// Reads until so many bytes are held. False if they end before that.
    async fn hold(&mut self, many: usize) -> io::Result<bool> {
        while self.held.len() < many {
            if !self.more().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills what is handed on, from what is at hand or can be read. False at the
    /// end of the stream.
    async fn advance(&mut self) -> io::Result<bool> {
        match self.next {
            Next::Line => {
                let Some(end) = self.held.iter().position(|byte| *byte == b'\n') else {
                    if self.held.len() > LINE {
                        return Err(invalid("its handshake does not end"));
                    }
                    return self.more().await;
                };
                self.ready = self.held.drain(..=end).collect();
                self.next = Next::Message;
            }
            Next::Message => return self.message().await,
            Next::Body(_) => {}
            Next::Past(0) => self.next = Next::Message,
            Next::Past(left) => {
                if self.held.is_empty() && !self.more().await? {
                    return Ok(false);
                }
                let passed = left.min(self.held.len());
                self.held.drain(..passed);
                self.next = Next::Past(left - passed);
            }
        }
        Ok(true)
    }

    async fn message(&mut self) -> io::Result<bool> {
        if !self.hold(START).await? {
            return Ok(false);
        }
        let lengths = self.held.first_chunk::<START>().and_then(Lengths::of);
        let lengths = lengths.ok_or_else(|| invalid("what it sends is no message"))?;
        if lengths.absurd() {
            self.next = Next::Past(lengths.head + lengths.body);
            return Ok(true);
        }
        if !self.hold(lengths.head).await? {
            return Ok(false);
        }
        let mut head: Vec<u8> = self.held.drain(..lengths.head).collect();
        let fate = lengths.fate(&head, &self.takes);
        self.next = match fate {
            Fate::Whole => Next::Body(lengths.body),
            Fate::Cut | Fate::Skipped => Next::Past(lengths.body),
            Fate::TooLarge => {
                let (size, most) = (lengths.head + lengths.body, self.takes.replies);
                let why = format!("an answer of {size} bytes: more than {most} are not taken");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        };
        if fate == Fate::Cut {
            cut_off_body(&mut head);
        }
        if self.systemd {
            rename_systemd(&mut head);
        }
        if fate != Fate::Skipped {
            self.ready = head;
        }
        Ok(true)
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.ready.is_empty() {
                return Ok(pour(&mut self.ready, buffer));
            }
            if let Next::Body(left) = self.next {
                if left == 0 {
                    self.next = Next::Message;
                    continue;
                }
                let room = buffer.len().min(left);
                let buffer = &mut buffer[..room];
                let read = if self.held.is_empty() {
                    self.read.read(buffer).await?
                } else {
                    pour(&mut self.held, buffer)
                };
                self.next = Next::Body(left - read);
                return Ok(read);
            }
            if !self.advance().await? {
                return Ok(0);
            }
        }
    }
}

/// Moves what fits to the beginning of a buffer; returns how many bytes.
fn pour(from: &mut Vec<u8>, into: &mut [u8]) -> usize {
    let many = into.len().min(from.len());
    into[..many].copy_from_slice(&from[..many]);
    from.drain(..many);
    many
}

#[async_trait]
impl<R: AsyncRead + Unpin + std::fmt::Debug + Send + Sync + 'static> ReadHalf for Reader<R> {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.receive(buffer).await?, Vec::new()))
    }
}

/// The half that is written to.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) write: OwnedWriteHalf,
    pub(super) patience: Duration,
}

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        match timeout(self.patience, self.write.write(buffer)).await {
            // A peer that is gone would otherwise be written to for ever.
            Ok(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(_) => {
                // Half a message may be out: nothing can follow it. The reader
                // sees that it is over, and so does who serves.
                let _ = rustix::net::shutdown(self.write.as_ref(), rustix::net::Shutdown::Both);
                let why = format!("nothing was taken for {} s", self.patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
