//! Decides what is done while the host cannot be looked at.
//!
//! Nothing is concluded from what is not seen: that something else runs would be
//! another hand, that nothing runs a candidate that came to nothing. So it is
//! looked again, for a time; after that the old system comes back, since nobody can
//! say that the candidate works, and nothing blocks the way back.

use std::time::Duration;

use super::{Act, Guardian, Phase, RUNGS, WayBack};
use crate::cause::SwitchCause;
use crate::job::Ending;
use crate::unseen::Part;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause once it has been waited for in vain.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// Time in which it is looked again before anything is given up.
const PATIENCE: Duration = Duration::from_secs(60);

impl Guardian<'_> {
    /// Returns what is done without the look; none where all that the phase rests on was seen.
    pub(super) fn blind(&self) -> Option<Act> {
        let (unseen, since) = self.sight.unseen.as_ref()?;
        let patient = self.now.since(*since) < PATIENCE;
        let profile = unseen.part == Part::Profile;
        let again = Act::LookAgain(PAUSE);
        let why = SwitchCause::Unseen { what: unseen.to_string() };
        let act = match &self.progress.phase {
            // These look at the profile only after it.
            Phase::Activating { .. } | Phase::Activated { .. } if profile => return None,
            Phase::PuttingBack(WayBack { activated: false, .. }) if profile => return None,
            // What was begun and broken off goes back in any case.
            Phase::Activating { .. } if !self.sight.own => return None,
            Phase::Activated { at } => match &self.sight.verdict {
                Some(verdict) if !verdict.good => {
                    self.put_back(verdict.why_bad(), Ending::RolledBack)
                }
                _ if self.now.since(*at) < self.order.health_timeout => again,
                Some(_) | None => self.put_back(why, Ending::RolledBack),
            },
            Phase::Ready
            | Phase::Activating { .. }
            | Phase::Committing
            | Phase::Deferring { .. }
            | Phase::Returning { .. }
            | Phase::PuttingBack(_)
                if patient =>
            {
                again
            }
            Phase::Ready => self.finish(Ending::Interrupted, why, false),
            Phase::Activating { .. } | Phase::Committing => self.put_back(why, Ending::RolledBack),
            Phase::Deferring { .. } | Phase::Returning { .. } => {
                self.put_default_back(why, Ending::RolledBack)
            }
            // As if no other hand were there: a broken system must not go on running
            // for want of a look.
            Phase::PuttingBack(WayBack { activated: false, .. }) => return None,
            // The default is judged by the profile alone, so it has to be seen.
            Phase::PuttingBack(back) if back.tries < RUNGS => {
                self.put_back_again(back, &why.to_string())
            }
            Phase::PuttingBack(_) => Act::LookAgain(LONG_PAUSE),
        };
        Some(act)
    }
}
