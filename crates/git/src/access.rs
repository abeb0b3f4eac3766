//! Access to a remote: the token, read from a file that others write.

use super::Remote;
use super::failure::PollError;
use fort_core::plain::one_line;
use fort_http::Secret;
use fort_http::token::{self, NoToken};

impl Remote {
    /// The token as it is now; `None` where none is configured.
    pub(super) fn token(&self) -> Result<Option<Secret>, PollError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        if !self.url.starts_with("https://") {
            return Err(PollError::Setup("a token is sent over https:// only".into()));
        }
        match token::read(file) {
            Ok(token) => Ok(Some(token)),
            Err(NoToken::Absent { file }) => Err(PollError::NoToken { file }),
            Err(unusable @ NoToken::Unusable { .. }) => Err(PollError::Setup(unusable.to_string())),
        }
    }

    /// Text from elsewhere, fit to be shown: one line, and should it repeat
    /// the token, without it.
    pub(super) fn presentable(&self, text: &str) -> String {
        let secret = self.token().ok().flatten();
        one_line(&secret.map_or_else(|| text.to_owned(), |token| token.hidden_in(text)))
    }
}
