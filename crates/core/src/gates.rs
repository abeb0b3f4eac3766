//! What a person has a say in: deployments that are suspended, commits that wait
//! to be confirmed, windows of time, and the way back to an earlier system.
//!
//! None of it is ever in the way of putting a system back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::Seen;
use super::open_words::open_words;
use super::policy::{Confirm, Policy};
use super::status::Lift;
use super::types::{BootId, Commit, Mono, Now, StorePath, Wall};

/// Confirmed commits that are remembered: a revert needs no second word.
const CONFIRMED: usize = 16;

/// What people said, and what waits for them to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// Nothing is activated while this is here.
    #[serde(default)]
    pub suspended: Option<Suspended>,
    /// The commit that waits to be confirmed.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// The commits that were, oldest first.
    #[serde(default)]
    pub confirmed: Vec<Commit>,
    /// What a person wants to go back to.
    #[serde(default)]
    pub back: Option<Back>,
    /// When a person last went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<WentBack>,
}

/// A person has gone back to an earlier system, or has begun to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// In which boot.
    pub boot_id: BootId,
    /// When, by that boot's clock.
    pub at: Mono,
}

/// Deployments are suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Why, in a person's words; may be empty.
    pub reason: String,
    /// Since when.
    pub since: Wall,
    /// For how long, in milliseconds; none: until a person says so.
    pub lasts: Option<u64>,
    /// In which boot that was said.
    pub boot_id: BootId,
    /// When, by that boot's clock.
    pub at: Mono,
}

/// A commit that is ready and waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The commit.
    pub commit: Commit,
    /// In which boot it was first seen to.
    pub boot_id: BootId,
    /// Since when.
    pub since: Mono,
}

/// The way back to an earlier system, as long as it has not been gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// What is left, and not activated again.
    pub left: StorePath,
    /// What is to run instead.
    pub to: StorePath,
    /// Why, in a person's words; may be empty.
    pub reason: String,
    /// Whether what is left does not run, but awaits its first boot: then only the
    /// default is given back.
    #[serde(default)]
    pub deferral: bool,
}

open_words! {
    /// What kind of gate is closed.
    pub enum GateKind {
        /// Deployments are suspended.
        Suspended = "suspended",
        /// A person has to confirm the commit.
        Confirm = "confirm",
        /// No window is open.
        Window = "window",
    }
}

/// Why a system that is ready is not activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Deployments are suspended, until then or until a person says so.
    Suspended {
        /// Until when.
        until: Option<Wall>,
        /// Why, in a person's words.
        reason: String,
    },
    /// A person has to confirm the commit.
    Unconfirmed {
        /// When it goes ahead by itself.
        until: Option<Wall>,
    },
    /// No window is open.
    Window {
        /// When the next one opens; none: never.
        opens: Option<Wall>,
    },
}

impl Gate {
    /// The kind of gate, as outsiders read it.
    pub fn kind(&self) -> GateKind {
        match self {
            Self::Suspended { .. } => GateKind::Suspended,
            Self::Unconfirmed { .. } => GateKind::Confirm,
            Self::Window { .. } => GateKind::Window,
        }
    }

    /// When it opens by itself.
    pub fn opens(&self) -> Option<Wall> {
        match self {
            Self::Suspended { until, .. } | Self::Unconfirmed { until } => *until,
            Self::Window { opens } => *opens,
        }
    }

    /// What would open it.
    pub fn lift(&self, commit: Commit) -> Lift {
        match self {
            Self::Suspended { .. } => Lift::default().run("resume"),
            Self::Unconfirmed { .. } => Lift::default().run(format!("confirm {}", commit.short())),
            Self::Window { opens: Some(_) } => "it goes ahead when the window opens".into(),
            Self::Window { opens: None } => {
                "correct activation.windows in the configuration: none of them ever opens".into()
            }
        }
    }
}

impl Suspended {
    /// When it ends by itself. Within its own boot that is told by a clock that
    /// nobody sets. After a reboot the wall clock may be a little behind what
    /// it said before, or years: so it is only over once that time has come.
    /// Deploying in the middle of what a person is doing would be worse than to
    /// wait for `resume`.
    pub fn until(&self, seen: &Seen, now: Now) -> Option<Wall> {
        let lasts = Duration::from_millis(self.lasts?);
        Some(match self.boot_id == seen.boot_id {
            true => now.wall.plus(lasts.saturating_sub(now.mono.since(self.at))),
            false => self.since.plus(lasts),
        })
    }
}

impl Pending {
    /// For how long it has waited in this boot.
    fn waited(&self, seen: &Seen, now: Now) -> Duration {
        // In another one it begins anew: whoever was to look at it may not have
        // been able to.
        let here = self.boot_id == seen.boot_id;
        if here { now.mono.since(self.since) } else { Duration::ZERO }
    }
}

impl Gates {
    /// What stands between a commit whose system is ready and its activation;
    /// the first that applies.
    pub fn closed(&self, policy: &Policy, seen: &Seen, commit: Commit, now: Now) -> Option<Gate> {
        if let Some(suspended) = &self.suspended {
            let until = suspended.until(seen, now);
            return Some(Gate::Suspended { until, reason: suspended.reason.clone() });
        }
        let confirmed = policy.confirm == Confirm::No || self.confirmed.contains(&commit);
        let pending = self.pending.as_ref().filter(|pending| pending.commit == commit);
        let waited = pending.map_or(Duration::ZERO, |pending| pending.waited(seen, now));
        let left = policy.confirm.by_itself().map(|after| after.saturating_sub(waited));
        if !confirmed && left != Some(Duration::ZERO) {
            return Some(Gate::Unconfirmed { until: left.map(|left| now.wall.plus(left)) });
        }
        let window = seen.deploy_window;
        (!window.open).then_some(Gate::Window { opens: window.changes })
    }

    /// Whether it is still to be written down since when a commit waits.
    pub fn lacks_pending(&self, commit: Commit, seen: &Seen) -> bool {
        let known = |pending: &Pending| pending.commit == commit && pending.boot_id == seen.boot_id;
        !self.pending.as_ref().is_some_and(known)
    }

    /// A person has confirmed a commit.
    pub(super) fn confirm(&mut self, commit: Commit) {
        self.confirmed.retain(|known| *known != commit);
        self.confirmed.push(commit);
        let surplus = self.confirmed.len().saturating_sub(CONFIRMED);
        self.confirmed.drain(..surplus);
    }

    /// Forgets what is over: `wanted` is the commit that is to run now, `awaiting` the
    /// system that awaits its first boot.
    pub(super) fn fold(
        &mut self,
        wanted: Option<Commit>,
        awaiting: Option<&StorePath>,
        seen: &Seen,
        now: Now,
    ) {
        let over = |until: Wall| now.wall >= until;
        self.suspended.take_if(|suspended| suspended.until(seen, now).is_some_and(over));
        self.pending.take_if(|pending| Some(pending.commit) != wanted);
        // It has been gone, or another hand has come in between.
        let switches = seen.jobs.iter().any(|job| job.id.kind == super::job::Kind::Switch);
        self.back.take_if(|back| {
            let awaits = back.deferral && awaiting == Some(&back.left);
            !switches && !awaits && seen.running.as_ref() != Some(&back.left)
        });
    }
}
