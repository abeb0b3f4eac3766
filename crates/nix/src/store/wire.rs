//! The protocol's bytes: numbers of 64 bits, little-endian, and strings that
//! are padded to eight bytes. Nothing is read that is longer than it may be.

use std::collections::BTreeSet;

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use super::StoreFailed;
use fort_core::types::StorePath;

/// Longest name, path or signature that is read, in bytes.
pub(super) const SHORT: usize = 64 << 10;
/// Longest text for people that is read, in bytes.
pub(super) const LONG: usize = 4 << 20;
/// Most elements of a list that are read.
const MOST: usize = 500_000;

/// Reader of the daemon's answers.
pub(super) struct Reader {
    from: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
}

impl Reader {
    pub(super) fn new(from: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { from: BufReader::new(from) }
    }

    pub(super) async fn number(&mut self) -> Result<u64, StoreFailed> {
        self.from.read_u64_le().await.map_err(gone)
    }

    /// Any number but 0 is yes.
    pub(super) async fn flag(&mut self) -> Result<bool, StoreFailed> {
        Ok(self.number().await? != 0)
    }

    /// The length of what follows.
    pub(super) async fn length(&mut self, most: usize) -> Result<usize, StoreFailed> {
        let length = self.number().await?;
        let fits = usize::try_from(length).ok().filter(|length| *length <= most);
        fits.ok_or_else(|| StoreFailed::malformed(format!("{length} where {most} is the most")))
    }

    pub(super) async fn bytes(&mut self, most: usize) -> Result<Vec<u8>, StoreFailed> {
        let length = self.length(most).await?;
        // Its length is believed only as far as bytes arrive.
        let mut bytes = Vec::new();
        let taken = (&mut self.from).take(length as u64).read_to_end(&mut bytes).await;
        if taken.map_err(gone)? < length {
            return Err(StoreFailed::Gone { said: String::new() });
        }
        let mut padding = [0; 8];
        let padding = &mut padding[..length.next_multiple_of(8) - length];
        self.from.read_exact(padding).await.map_err(gone)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(StoreFailed::malformed("a string is not padded"));
        }
        Ok(bytes)
    }

    /// Bytes as they come, without a length before them: as many as are there,
    /// and at least one.
    pub(super) async fn some(&mut self, buffer: &mut [u8]) -> Result<usize, StoreFailed> {
        match self.from.read(buffer).await.map_err(gone)? {
            0 => Err(StoreFailed::Gone { said: String::new() }),
            read => Ok(read),
        }
    }

    /// A string that something is decided by.
    pub(super) async fn word(&mut self) -> Result<String, StoreFailed> {
        let bytes = self.bytes(SHORT).await?;
        String::from_utf8(bytes).map_err(|_| StoreFailed::malformed("a string is not UTF-8"))
    }

    pub(super) async fn words(&mut self) -> Result<Vec<String>, StoreFailed> {
        let mut words = Vec::new();
        for _ in 0..self.length(MOST).await? {
            words.push(self.word().await?);
        }
        Ok(words)
    }

    pub(super) async fn paths(&mut self) -> Result<BTreeSet<StorePath>, StoreFailed> {
        let mut paths = BTreeSet::new();
        for _ in 0..self.length(MOST).await? {
            paths.insert(store_path(&self.word().await?)?);
        }
        Ok(paths)
    }
}

pub(super) fn store_path(text: &str) -> Result<StorePath, StoreFailed> {
    text.parse().map_err(|_| StoreFailed::malformed(format!("{text:.200?} is not a store path")))
}

/// Requests, until they are sent.
#[derive(Default)]
pub(super) struct Request(Vec<u8>);

impl Request {
    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn word(mut self, word: &str) -> Self {
        self = self.number(word.len() as u64);
        self.0.extend(word.as_bytes());
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    pub(super) fn words<T: AsRef<str>>(self, words: impl ExactSizeIterator<Item = T>) -> Self {
        let request = self.number(words.len() as u64);
        words.fold(request, |request, word| request.word(word.as_ref()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Maps an I/O error to a lost connection, whichever error it was: nothing more can be
/// read from that end.
#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
pub(super) fn gone(error: std::io::Error) -> StoreFailed {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let plainly = [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind());
    StoreFailed::Gone { said: if plainly { String::new() } else { error.to_string() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn reading(bytes: &[u8]) -> Reader {
        Reader::new(Box::new(std::io::Cursor::new(bytes.to_vec())))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(words in prop::collection::vec(".{0,20}", 0..5), n: u64) {
            let request = Request::default().words(words.iter()).number(n);
            prop_assert_eq!(request.bytes().len() % 8, 0);
            let mut reader = reading(request.bytes());
            prop_assert_eq!(block(reader.words()).unwrap(), words);
            prop_assert_eq!(block(reader.number()).unwrap(), n);
            let end = matches!(block(reader.number()), Err(StoreFailed::Gone { .. }));
            prop_assert!(end);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = block(reading(&bytes).words());
            let _ = block(reading(&bytes).paths());
        }
    }

    #[test]
    fn a_length_is_not_believed_before_its_bytes_arrive() {
        let huge = (SHORT as u64 + 1).to_le_bytes();
        assert!(matches!(block(reading(&huge).word()), Err(StoreFailed::Malformed { .. })));
        let cut = Request::default().number(SHORT as u64).number(7);
        assert!(matches!(block(reading(cut.bytes()).word()), Err(StoreFailed::Gone { .. })));
        let list = Request::default().number(u64::MAX);
        assert!(matches!(block(reading(list.bytes()).paths()), Err(StoreFailed::Malformed { .. })));
    }

    #[test]
    fn padding_is_nothing_but_zeros() {
        let bytes = [&3_u64.to_le_bytes()[..], b"abc\0\0\0\0x"].concat();
        assert!(matches!(block(reading(&bytes).word()), Err(StoreFailed::Malformed { .. })));
    }
}
