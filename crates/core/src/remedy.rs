//! Remedies for a remote that gives no answer, or a wrong one.
//!
//! The words are those of docs/operations.md; a test compares them.

/// Remedy that would bring an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remedy {
    /// Network or forge are away, and have to come back.
    #[default]
    Wait,
    /// A token that is valid.
    Token,
    /// A key that the forge knows.
    Key,
    /// The host key of the forge.
    HostKey,
    /// The right to read.
    Access,
    /// Another address, or the right to see what is at this one.
    Repository,
    /// Another address in the configuration.
    Url,
    /// A forge that works.
    Forge,
    /// A forge, or a way there, that does not damage what is sent.
    Data,
    /// A certificate that this host trusts.
    Certificate,
    /// Less to be read: fewer branches, or smaller files.
    Less,
    /// A repair of something on this host.
    Host,
}

impl Remedy {
    /// Every remedy there is.
    pub const ALL: [Self; 12] = [
        Self::Wait,
        Self::Token,
        Self::Key,
        Self::HostKey,
        Self::Access,
        Self::Repository,
        Self::Url,
        Self::Forge,
        Self::Data,
        Self::Certificate,
        Self::Less,
        Self::Host,
    ];

    /// Returns what a person is to do, in words.
    pub fn lift(self) -> &'static str {
        match self {
            Self::Wait => "bring network or forge back; it is asked again by itself",
            Self::Token => "put a valid token there; it is read at every poll",
            Self::Key => "put a key there that the forge knows; it is read at every poll",
            Self::HostKey => "put the forge's host key there, if it is the right one",
            Self::Access => "give the token's user access to the repository",
            Self::Repository => "correct url, or the token's rights",
            Self::Url => "correct url in the configuration",
            Self::Forge => "see the forge's log; it is asked again by itself",
            Self::Data => "mend the forge, or the proxy in between; it is asked again by itself",
            Self::Certificate => "set ca_file, or mend the certificate or this host's clock",
            Self::Less => "delete branches that nobody needs; it is asked again by itself",
            Self::Host => "mend that on this host; it is asked again by itself",
        }
    }
}
