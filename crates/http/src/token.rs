//! A token in a file that somebody else writes: read at every use, for it may
//! come later, and may be replaced at any time.

use std::io;
use std::path::{Path, PathBuf};

use fort_sys::foreign_file;

use zeroize::Zeroizing;

use crate::Secret;

/// Largest file that is read, in bytes: larger than any token, smaller than a mistake.
const LIMIT: u64 = 16 << 10;

/// Reason why there is no token to use.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// The token is still to come: its file is absent or empty.
    #[error("waiting for a token: {} is absent or empty", file.display())]
    Absent {
        /// Path at which the token is expected.
        file: PathBuf,
    },
    /// The file holds no token. Nothing of its contents is repeated.
    #[error("the token in {} {what}", file.display())]
    Unusable {
        /// Path at which the token was read.
        file: PathBuf,
        /// Description of what is wrong with the contents.
        what: String,
    },
}

/// Reads the token as it is now.
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
