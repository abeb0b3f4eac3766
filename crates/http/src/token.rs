//! A token in a file that somebody else writes: read at every use, for it may
//! come later, and may be replaced at any time.

use std::io;
use std::path::{Path, PathBuf};

use fort_sys::foreign_file;

use zeroize::Zeroizing;

use crate::Secret;

/// Larger than any token; smaller than a mistake.
const LIMIT: u64 = 16 << 10;

/// There is no token to use.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// It is still to come.
    #[error("waiting for a token: {} is absent or empty", file.display())]
    Absent {
        /// Where it is expected.
        file: PathBuf,
    },
    /// What is there is no token. Nothing of it is repeated.
    #[error("the token in {} {what}", file.display())]
    Unusable {
        /// Where it was read.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The token as it is now.
pub fn read(file: &Path) -> Result<Secret, NoToken> {
    let unusable = |what: &str| NoToken::Unusable { file: file.into(), what: what.into() };
    let text: Zeroizing<String> = match foreign_file::read(file, LIMIT) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| unusable("is not text"))?.into(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(e) => return Err(unusable(&format!("cannot be read: {e}"))),
    };
    let token = text.trim_end_matches(['\n', '\r', ' ', '\t']);
    if token.is_empty() {
        return Err(NoToken::Absent { file: file.into() });
    }
    if token.chars().any(char::is_control) {
        return Err(unusable("has more than one line"));
    }
    Ok(Secret::from(token.to_owned()))
}
