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

/// Longest time for which one rung of the way back waits for the lock.
pub const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Pause before asking for the lock again.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// Holder of the lock, as far as that can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// Nobody holds the lock.
    #[default]
    Free,
    /// Some process holds the lock; which one, in words.
    Held(String),
    /// The processes cannot be looked at.
    Unknown,
}

/// Claim of a process that holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whether the process has the rights to switch this host: root's, or the guardian's own.
    pub root: bool,
    /// Whether systemd thinks that the process's unit is over: it was left behind.
    pub over: bool,
}

/// Processes that may lose the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Processes without root's rights: they keep their hold on a file that counts no more.
    Strangers,
    /// Strangers, and processes that were left behind by a unit that is over: they are killed,
    /// for what was left behind may be switching still.
    Leftovers,
    /// Everybody: as the last rung of the way back does without the lock altogether.
    Everybody,
}

/// Measure against the processes that hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing: they may be switching this host.
    Leave,
    /// Another file takes the place of the lock's, unless only root can open that.
    Renew,
    /// Another file takes the place of the lock's, whoever can open it: its holders do not count.
    PassBy,
    /// The processes are killed, and then the lock is looked at again.
    End,
}

impl Whom {
    /// Returns what is done about the processes that hold the lock, given the claim of each.
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

/// Returns the cause where something was not done, since the lock was not let go.
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

    /// Whether the lock was waited for as long as an activation may take.
    pub(super) fn waited_for_the_lock(&self) -> bool {
        self.now.since(self.progress.since) >= self.order.activation_timeout
    }

    /// Writes down which process holds the lock, and after a pause asks for it again.
    pub(super) fn wait_for_the_lock(&self) -> Act {
        match &self.sight.lock {
            Lock::Held(holder) if self.progress.lock.as_ref() != Some(holder) => {
                Act::Note(Progress { lock: Some(holder.clone()), ..self.progress.clone() })
            }
            Lock::Held(_) | Lock::Free | Lock::Unknown => Act::Pause(LOCK_PAUSE),
        }
    }
}
