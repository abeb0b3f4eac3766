//! The lock of `switch-to-configuration`: whether it was what stopped a program, who may lose it,
//! and for how long it is waited for.
//!
//! Any process that can open the lock's file can hold the lock, and nixpkgs makes that file
//! readable by everybody. So it is taken from those who cannot be switching this host. Never from
//! a root process of a unit that is at work: that may be a person's own switch, and there are
//! never two at once. It is waited for, but not for ever.

use std::time::Duration;

use super::{Act, Guardian, Progress};
use crate::cause::SwitchCause;

/// How long one rung of the way back waits for the lock.
pub const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Pause before asking for the lock again.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// Who holds the lock, as far as that can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    #[default]
    Free,
    /// Some process, in words.
    Held(String),
    /// The processes cannot be looked at.
    Unknown,
}

/// What a process that holds the lock has to show for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whether it has the rights to switch this host: root's, or the guardian's own.
    pub root: bool,
    /// Whether systemd thinks that its unit is over: it was left behind.
    pub over: bool,
}

/// Who may lose the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Processes without root's rights: they keep their hold on a file that counts no more.
    Strangers,
    /// Those, and what was left behind by a unit that is over: they are killed, for what was left
    /// behind may be switching still.
    Leftovers,
    /// Everybody: as the last rung of the way back does without the lock altogether.
    Everybody,
}

/// What is done about those who hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing: they may be switching this host.
    Leave,
    /// Another file takes the place of the lock's, unless only root can open that.
    Renew,
    /// The same, whoever can open it: these are of no account.
    PassBy,
    /// They are killed, and then it is looked again.
    End,
}

impl Whom {
    /// What is done about the processes that hold the lock, given the claim of each.
    pub fn about(self, claims: &[Claim]) -> About {
        let strangers = claims.iter().all(|claim| !claim.root);
        let no_claim = claims.iter().all(|claim| !claim.root || claim.over);
        match self {
            _ if claims.is_empty() => About::Renew,
            Self::Strangers if strangers => About::PassBy,
            Self::Leftovers if no_claim => About::End,
            Self::Strangers | Self::Leftovers => About::Leave,
            Self::Everybody => About::PassBy,
        }
    }
}

/// Why something was not done, where the lock was not let go.
pub(super) fn cause(lock: &Lock) -> SwitchCause {
    let holder = match lock {
        Lock::Held(holder) => Some(holder.clone()),
        Lock::Free | Lock::Unknown => None,
    };
    SwitchCause::Locked { holder }
}

impl Guardian<'_> {
    /// Whether 11 was the lock: the program says so, and somebody does hold it.
    ///
    /// What the program says counts by itself only where nobody can be looked at.
    pub(super) fn met_the_lock(&self) -> bool {
        self.sight.traces.locked_out
            && match &self.sight.lock {
                Lock::Held(_) | Lock::Unknown => true,
                Lock::Free => false,
            }
    }

    /// Whether it was waited for as long as an activation may take.
    pub(super) fn waited_for_the_lock(&self) -> bool {
        self.now.since(self.progress.since) >= self.order.activation_timeout
    }

    /// Writes down who holds it, and after a pause it is asked for again.
    pub(super) fn wait_for_the_lock(&self) -> Act {
        match &self.sight.lock {
            Lock::Held(holder) if self.progress.lock.as_ref() != Some(holder) => {
                Act::Note(Progress { lock: Some(holder.clone()), ..self.progress.clone() })
            }
            Lock::Held(_) | Lock::Free | Lock::Unknown => Act::Pause(LOCK_PAUSE),
        }
    }
}
