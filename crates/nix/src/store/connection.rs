//! One conversation with a daemon: how it begins, what the daemon says before
//! each answer, and how it ends.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::StoreFailed;
use super::address::Address;
use super::wire::{LONG, Reader, Request, SHORT, gone};
use crate::Nix;
use fort_sys::command::{Talk, plain};

// What precedes an answer, each with what belongs to it.
const TEXT: u64 = 0x6f6c_6d67;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const ACTIVITY: u64 = 0x5354_5254;
const ACTIVITY_ENDS: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// Fields of an activity, and places of an error.
const MOST_FIELDS: usize = 10_000;
/// Largest part of our own daemon's stderr that is kept, in bytes.
const STDERR: usize = 4 << 10;

/// One conversation, whose beginning is over.
pub(super) struct Connection {
    pub(super) reader: Reader,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The daemon, if it is our own.
    talk: Option<Talk>,
}

impl Connection {
    /// Opens a conversation: connects or starts a daemon, greets it and sends the options.
    pub(super) async fn open(
        address: &Address,
        options: &[(String, String)],
    ) -> Result<Self, StoreFailed> {
        let mut connection = match address {
            Address::Pipes(nix) => Self::of_pipes(nix)?,
            Address::SocketOr(socket, nix) => match UnixStream::connect(socket).await {
                Ok(stream) => Self::of_stream(stream),
                Err(_) => Self::of_pipes(nix)?,
            },
            Address::Socket(socket) => {
                let unreachable = |source| {
                    let socket = socket.display().to_string();
                    StoreFailed::Unreachable { socket, source }
                };
                Self::of_stream(UnixStream::connect(socket).await.map_err(unreachable)?)
            }
        };
        let begun = match connection.greet().await {
            Ok(()) => connection.set_options(options).await,
            Err(error) => Err(error),
        };
        match (begun, &mut connection.talk) {
            // One that cannot open the store says so there.
            (Err(StoreFailed::Gone { said }), Some(talk)) if said.is_empty() => {
                Err(StoreFailed::Gone { said: talk.last_words().await })
            }
            (Err(error), _) => Err(error),
            (Ok(()), _) => Ok(connection),
        }
    }

    fn of_stream(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        Self { reader: Reader::new(Box::new(from)), writer: Box::new(to), talk: None }
    }

    fn of_pipes(nix: &Nix) -> Result<Self, StoreFailed> {
        let command = nix.daemon_on_pipes().stderr_limit(STDERR);
        let (talk, stdin, stdout) = command.talk()?;
        let reader = Reader::new(Box::new(stdout));
        Ok(Self { reader, writer: Box::new(stdin), talk: Some(talk) })
    }

    pub(super) async fn send(&mut self, request: &Request) -> Result<(), StoreFailed> {
        self.writer.write_all(request.bytes()).await.map_err(gone)?;
        self.writer.flush().await.map_err(gone)
    }

    /// Reads what the daemon says before an answer: what it does meanwhile,
    /// which nobody here asks about, and how that ended.
    pub(super) async fn answered(&mut self) -> Result<(), StoreFailed> {
        loop {
            match self.reader.number().await? {
                LAST => return Ok(()),
                ERROR => return Err(self.error().await?),
                TEXT => {
                    let text = self.reader.bytes(LONG).await?;
                    tracing::debug!("the Nix daemon: {}", plain(&text).trim_end());
                }
                ACTIVITY => {
                    for _id_level_kind in 0..3 {
                        self.reader.number().await?;
                    }
                    self.reader.bytes(LONG).await?;
                    self.fields().await?;
                    let _parent = self.reader.number().await?;
                }
                ACTIVITY_ENDS => {
                    self.reader.number().await?;
                }
                RESULT => {
                    for _id_kind in 0..2 {
                        self.reader.number().await?;
                    }
                    self.fields().await?;
                }
                other => return Err(StoreFailed::malformed(format!("{other:#x} in an answer"))),
            }
        }
    }

    async fn fields(&mut self) -> Result<(), StoreFailed> {
        for _ in 0..self.reader.length(MOST_FIELDS).await? {
            match self.reader.number().await? {
                0 => {
                    self.reader.number().await?;
                }
                1 => {
                    self.reader.bytes(LONG).await?;
                }
                other => return Err(StoreFailed::malformed(format!("a field of kind {other}"))),
            }
        }
        Ok(())
    }

    async fn error(&mut self) -> Result<StoreFailed, StoreFailed> {
        let _type = self.reader.bytes(SHORT).await?;
        let _level = self.reader.number().await?;
        let _name = self.reader.bytes(SHORT).await?;
        let said = self.reader.bytes(LONG).await?;
        let _has_place = self.reader.number().await?;
        for _ in 0..self.reader.length(MOST_FIELDS).await? {
            let _has_place = self.reader.number().await?;
            self.reader.bytes(LONG).await?;
        }
        let said = plain(&said);
        let said = said.trim();
        let said = said.strip_prefix("error:").unwrap_or(said).trim_start();
        Ok(StoreFailed::Refused { said: said.chars().take(1000).collect() })
    }
}
