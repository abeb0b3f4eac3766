//! Output of a program: cut into lines, kept up to a bound, and made fit to be shown.

use tokio::io::{AsyncRead, AsyncReadExt};

pub use fort_core::plain::plain;

/// Keeps the end of what is written, up to a limit.
#[derive(Debug, Clone)]
pub struct Tail {
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    /// Makes a tail that keeps at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, cut: false }
    }

    /// Adds bytes to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(self.limit)..]);
        self.cut |= bytes.len() > self.limit;
        // Moves the bytes once per `limit` written, not once per write.
        if self.kept.len() > self.limit * 2 {
            self.shorten();
        }
    }

    /// Returns the kept end, as [`plain`] text of whole lines where there are any.
    pub fn text(mut self) -> String {
        self.shorten();
        let mut kept = &self.kept[..];
        if self.cut
            && let Some(end) = kept.iter().position(|b| *b == b'\n')
        {
            kept = &kept[end + 1..];
        }
        plain(kept).trim_end().to_owned()
    }

    fn shorten(&mut self) {
        let over = self.kept.len().saturating_sub(self.limit);
        self.kept.drain(..over);
        self.cut |= over > 0;
    }
}

/// Keeps the beginning of what is written, up to a limit.
pub(super) struct Head {
    pub(super) kept: Vec<u8>,
    limit: usize,
    pub(super) cut: bool,
}

impl Head {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, cut: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(self.limit - self.kept.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.cut |= room < bytes.len();
    }
}

/// A pipe, cut into lines.
pub(super) struct Lines<R> {
    pipe: Option<R>,
    line: Vec<u8>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: Option<R>, limit: usize) -> Self {
        Self { pipe, line: Vec::new(), limit }
    }

    pub(super) fn open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads the next bytes; none at the end, which closes the pipe. May be dropped while
    /// it waits: nothing is lost.
    pub(super) async fn read(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 8192];
        let read = match &mut self.pipe {
            Some(pipe) => pipe.read(&mut chunk).await.unwrap_or(0),
            None => 0,
        };
        if read == 0 {
            self.pipe = None;
        }
        chunk.truncate(read);
        chunk
    }

    pub(super) fn split(&mut self, chunk: &[u8], mut on_line: impl FnMut(&[u8])) {
        for piece in chunk.split_inclusive(|b| *b == b'\n') {
            let whole = piece.ends_with(b"\n");
            let text = &piece[..piece.len() - usize::from(whole)];
            let room = text.len().min(self.limit - self.line.len());
            self.line.extend_from_slice(&text[..room]);
            if whole {
                on_line(&self.line);
                self.line.clear();
            }
        }
    }

    /// Hands out a last line that has no end.
    pub(super) fn last(&mut self, mut on_line: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            on_line(&self.line);
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_with_a_whole_line_where_it_can() {
        let mut tail = Tail::new(10);
        tail.push(b"one\ntwo\nthree\n");
        assert_eq!(tail.clone().text(), "three");
        tail.push(b"a line of its own");
        assert_eq!(tail.text(), "of its own");
        let mut tail = Tail::new(10);
        tail.push(b"all of it\n");
        assert_eq!(tail.text(), "all of it");
    }
}
