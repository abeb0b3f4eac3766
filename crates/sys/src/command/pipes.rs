//! A program that is talked with over its pipes.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::{CannotStart, Command, Group, Tail};

/// Time for which the last output of a program is waited for, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program that runs. It and its process group are killed when this is
/// dropped; what bounds a conversation is up to whoever has it.
pub struct Talk {
    // Dropped, and so killed, before the child: until that is dropped nobody
    // reaps it, and its number cannot be another's.
    _group: Group,
    _child: Child,
    stderr: Option<JoinHandle<Tail>>,
}

impl Command {
    /// Starts the program, to be talked with. Neither the time limit nor that of its
    /// stdout are looked at.
    pub fn talk(&self) -> Result<(Talk, ChildStdin, ChildStdout), CannotStart> {
        let error = |what: &str| CannotStart {
            program: self.program.clone(),
            source: std::io::Error::other(format!("it has no {what}")),
        };
        let mut child = self.spawn(Stdio::piped())?;
        let group = Group::of(&child);
        let stdin = child.stdin.take().ok_or_else(|| error("stdin"))?;
        let stdout = child.stdout.take().ok_or_else(|| error("stdout"))?;
        let mut tail = Tail::new(self.stderr_limit);
        let stderr = child.stderr.take().map(|mut stderr| {
            // Read all the time: a full pipe would stop it.
            tokio::spawn(async move {
                let mut chunk = vec![0; 4096];
                while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
                    tail.push(&chunk[..read]);
                }
                tail
            })
        });
        Ok((Talk { _group: group, _child: child, stderr }, stdin, stdout))
    }
}

impl Talk {
    /// Returns the end of the program's stderr, once it has ended.
    pub async fn last_words(&mut self) -> String {
        let Some(stderr) = self.stderr.take() else { return String::new() };
        match tokio::time::timeout(LAST_WORDS, stderr).await {
            Ok(Ok(tail)) => tail.text(),
            Ok(Err(_)) | Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn what_is_said_is_answered_and_last_words_are_kept() {
        let command = Command::new("/bin/sh").args(["-c", "read a; echo $a; echo oops >&2"]);
        let (answer, words) = block(async {
            let (mut talk, mut stdin, mut stdout) = command.talk().unwrap();
            stdin.write_all(b"hello\n").await.unwrap();
            let mut answer = String::new();
            stdout.read_to_string(&mut answer).await.unwrap();
            (answer, talk.last_words().await)
        });
        assert_eq!((answer.as_str(), words.as_str()), ("hello\n", "oops"));
    }

    #[test]
    fn one_that_is_dropped_is_gone() {
        let command = Command::new("/bin/sh").args(["-c", "echo x; exec sleep 300"]);
        let mut end = Vec::new();
        block(async {
            let (talk, _stdin, mut stdout) = command.talk().unwrap();
            assert_eq!(stdout.read_u8().await.unwrap(), b'x');
            drop(talk);
            stdout.read_to_end(&mut end).await.unwrap();
        });
        assert_eq!(end, b"\n");
    }
}
