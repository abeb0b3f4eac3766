//! The steps that a first clone comes in, newest commits first (`deepen`,
//! gitprotocol-v2(5)).
//!
//! Indexing a pack takes some 200 bytes of memory for each object in it, and a history of
//! 60,000 commits has more than half a million. So no pack holds more than a step's.
//!
//! What surprises: between two steps the clone is shallow, and says so in a file that git
//! reads as well. A fetch that ends there is gone on with by the next one.

use std::num::NonZeroU32;

use gix::ObjectId;
use gix::protocol::fetch::Shallow;

/// Commits of a step along one line of history. Most repositories for hosts are
/// smaller, and come in one.
const COMMITS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not 0");

/// Part of history that one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All of history at once.
    Whole,
    /// The newest commits of it.
    Newest,
    /// The commits before those that are here.
    Older,
}

impl Step {
    /// The step that is due. `boundary`: the commits here whose parents were not sent.
    pub(super) fn due(boundary: &[ObjectId]) -> Self {
        if boundary.is_empty() { Self::Newest } else { Self::Older }
    }

    /// Whether nothing is left after it. `before` and `after`: the boundary before and
    /// after this step.
    pub(super) fn is_last(self, before: &[ObjectId], after: &[ObjectId]) -> bool {
        match self {
            Self::Whole => true,
            // A remote may lack the rest itself: then nothing has moved.
            Self::Newest | Self::Older => after.is_empty() || before == after,
        }
    }

    pub(super) fn shallow(self) -> Shallow {
        match self {
            Self::Whole => Shallow::NoChange,
            Self::Newest => Shallow::DepthAtRemote(COMMITS),
            Self::Older => Shallow::Deepen(COMMITS.get()),
        }
    }
}

/// The commits of a clone whose parents were not sent yet.
pub(super) fn boundary(repository: &gix::Repository) -> gix::Result<Vec<ObjectId>> {
    let commits = repository.shallow_commits()?;
    Ok(commits.iter().flat_map(|commits| commits.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(n: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[n; 20])
    }

    #[test]
    fn steps_go_on_until_nothing_is_left_or_nothing_moves() {
        let (one, other) = (&[commit(1)][..], &[commit(2)][..]);
        for step in [Step::Newest, Step::Older] {
            assert!(!step.is_last(&[], one));
            assert!(!step.is_last(one, other));
            assert!(step.is_last(one, one));
            assert!(step.is_last(one, &[]));
        }
        assert!(Step::Whole.is_last(&[], one));
    }
}
