//! Everything that a person has a say in: deployments that are suspended, commits that wait to be
//! confirmed, windows of time, and the way back to an earlier system.
//!
//! No gate is ever in the way of rolling a system back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::Seen;
use super::open_words::open_words;
use super::policy::{Confirm, Policy};
use super::status::{GateView, Lift};
use super::types::{BootId, Commit, Mono, Now, StorePath, Wall};

/// Confirmed commits that are remembered: a revert needs no second word.
const CONFIRMED: usize = 16;

/// Decisions of people about deployments, and the commit that waits for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// Suspension of deployments; nothing is activated while it is here.
    #[serde(default)]
    pub suspended: Option<Suspended>,
    /// The commit that waits to be confirmed.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Commits that were confirmed, oldest first.
    #[serde(default)]
    pub confirmed: Vec<Commit>,
    /// Way back to an earlier system that a person wants, until it was gone.
    #[serde(default)]
    pub back: Option<Back>,
    /// Last time that a person went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<WentBack>,
}

/// Moment at which a person went back to an earlier system, or began to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// Boot in which the person went back.
    pub boot_id: BootId,
    /// Time at which the person went back, by that boot's clock.
    pub at: Mono,
}

/// Suspension of deployments by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Reason in the person's words; may be empty.
    pub reason: String,
    /// Time at which the suspension began.
    pub since: Wall,
    /// Length in milliseconds; none: until a person ends the suspension.
    pub lasts: Option<u64>,
    /// Boot in which the suspension began.
    pub boot_id: BootId,
    /// Time at which it began, by that boot's clock.
    pub at: Mono,
}

/// A commit that is ready and waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Commit that waits to be confirmed.
    pub commit: Commit,
    /// Boot in which the commit was first seen to wait.
    pub boot_id: BootId,
    /// Time since which it waits, by that boot's clock.
    pub since: Mono,
}

/// The way back to an earlier system, as long as it has not been gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// System that is left, and not activated again.
    pub left: StorePath,
    /// System that is to run instead.
    pub to: StorePath,
    /// Reason in the person's words; may be empty.
    pub reason: String,
    /// Whether the system that is left does not run, but awaits its first boot: then only the
    /// default is given back.
    #[serde(default)]
    pub deferral: bool,
}

open_words! {
    /// Kind of gate that is closed.
    pub enum GateKind {
        /// A person has suspended deployments.
        Suspended = "suspended",
        /// A person has to confirm the commit.
        Confirm = "confirm",
        /// No window is open.
        Window = "window",
    }
}

/// Gate that keeps a system that is ready from being activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Deployments are suspended, until then or until a person says so.
    Suspended {
        /// End of the suspension; none: when a person ends it.
        until: Option<Wall>,
        /// Reason in the person's words; may be empty.
        reason: String,
    },
    /// A person has to confirm the commit.
    Unconfirmed {
        /// Time at which the commit goes ahead by itself; none: never.
        until: Option<Wall>,
    },
    /// No window is open.
    Window {
        /// Time at which the next window opens; none: never.
        opens: Option<Wall>,
    },
}

impl Gate {
    /// Returns the kind of gate, as outsiders read it.
    pub fn kind(&self) -> GateKind {
        match self {
            Self::Suspended { .. } => GateKind::Suspended,
            Self::Unconfirmed { .. } => GateKind::Confirm,
            Self::Window { .. } => GateKind::Window,
        }
    }

    /// Returns the gate as the status shows it, closed for a commit.
    pub(super) fn view(&self, commit: Commit) -> GateView {
        GateView { kind: self.kind(), commit, until: self.opens(), lift: self.lift(commit) }
    }

    /// Returns the time at which the gate opens by itself, if it ever does.
    pub fn opens(&self) -> Option<Wall> {
        match self {
            Self::Suspended { until, .. } | Self::Unconfirmed { until } => *until,
            Self::Window { opens } => *opens,
        }
    }

    /// Returns what would open the gate for this commit.
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
    /// Returns when the suspension ends by itself. Within its own boot that is told by a clock
    /// that nobody sets. After a reboot the wall clock may be a little behind what it said
    /// before, or years: so the suspension is only over once that time has come. Deploying in the
    /// middle of what a person is doing would be worse than to wait for `resume`.
    pub fn until(&self, seen: &Seen, now: Now) -> Option<Wall> {
        let lasts = Duration::from_millis(self.lasts?);
        Some(match self.boot_id == seen.boot_id {
            true => now.wall.plus(lasts.saturating_sub(now.mono.since(self.at))),
            false => self.since.plus(lasts),
        })
    }
}

impl Pending {
    /// Returns how long the commit has waited in this boot.
    fn waited(&self, seen: &Seen, now: Now) -> Duration {
        // In another one it begins anew: whoever was to look at it may not have
        // been able to.
        let here = self.boot_id == seen.boot_id;
        if here { now.mono.since(self.since) } else { Duration::ZERO }
    }
}

impl Gates {
    /// Returns the first gate that keeps a commit whose system is ready from being activated, if
    /// one does.
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

    /// Whether the time since when a commit waits is still to be written down.
    pub fn lacks_pending(&self, commit: Commit, seen: &Seen) -> bool {
        let known = |pending: &Pending| pending.commit == commit && pending.boot_id == seen.boot_id;
        !self.pending.as_ref().is_some_and(known)
    }

    /// Remembers that a person has confirmed a commit.
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
        let switches = seen.jobs.iter().any(|job| job.id.kind == super::job::JobKind::Switch);
        self.back.take_if(|back| {
            let awaits = back.deferral && awaiting == Some(&back.left);
            !switches && !awaits && seen.running.as_ref() != Some(&back.left)
        });
    }
}
