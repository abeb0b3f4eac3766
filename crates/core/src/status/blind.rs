//! View of a host that cannot be looked at: which parts, since when, and what would lift that.

use serde::{Deserialize, Serialize};

use super::Viewer;
use crate::types::Wall;
use crate::unseen::{Part, Unseen};

/// A host that cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindView {
    /// The first part that could not be looked at, with its path and the error.
    #[serde(flatten)]
    pub unseen: Unseen,
    /// Time at which that began.
    pub since: Wall,
    /// Remedy that would lift it.
    pub lift: String,
    /// The other parts that could not be looked at.
    pub more: Vec<Unseen>,
}

impl BlindView {
    /// Whether this part is not known, since it could not be looked at.
    pub fn hides(&self, part: Part) -> bool {
        std::iter::once(&self.unseen).chain(&self.more).any(|unseen| unseen.part == part)
    }
}

impl Viewer<'_> {
    pub(super) fn blind(&self) -> Option<BlindView> {
        let unseen = self.seen.blind()?;
        let others = self.seen.unseen.iter().filter(|other| *other != unseen);
        Some(BlindView {
            unseen: unseen.clone(),
            since: self.memory.blind_since.unwrap_or(self.now.wall),
            lift: unseen.lift().into(),
            more: others.cloned().collect(),
        })
    }

    /// Returns notes on parts that could not be looked at, where the state does not say so: a
    /// switch that is at work comes first, and some parts matter less.
    pub(super) fn unseen_notes(&self, is_said: bool) -> impl Iterator<Item = String> {
        let first = self.seen.blind().filter(|_| is_said);
        let unsaid = self.seen.unseen.iter().filter(move |unseen| Some(*unseen) != first);
        unsaid.map(|unseen| match unseen.part.is_needed() {
            true => format!("this host cannot be looked at: {unseen}; {}", unseen.lift()),
            false => format!("whether a reboot is needed cannot be told: {unseen}"),
        })
    }
}
