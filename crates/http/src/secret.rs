//! Text that is never shown: a token, a netrc, a key.

use std::fmt;

use zeroize::Zeroizing;

/// Text that is never shown. It has no `Display`, its `Debug` says nothing of it, and
/// its memory is wiped when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the text itself, for the request or the file that it goes into.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns text from elsewhere with every repetition of this one blotted out.
    pub fn hidden_in(&self, text: &str) -> String {
        text.replace(self.expose(), "***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_is_blotted_out_of_what_repeats_it() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "(a secret)");
        assert_eq!(secret.hidden_in("no hunter2 here"), "no *** here");
    }
}
