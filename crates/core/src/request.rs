//! Requests of a person to the agent, as changes of its memory.

mod gates;

use std::time::Duration;

use super::job::RefusalCause;
use super::memory::{KnownSystem, Memory, Subject};
use super::observed::Seen;
use super::policy::Policy;
use super::select::{Standing, Testing, select};
use super::types::{Commit, Now, StorePath};

/// Request of a person to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Accept a head that does not descend from the last accepted one.
    Accept(Prefix),
    /// Lift backoff and quarantine: of one commit, or of everything.
    Retry(Option<Prefix>),
    /// Let exactly this commit be activated.
    Confirm(Prefix),
    /// Activate nothing, for some time or until told otherwise.
    Suspend {
        /// Reason in the person's words.
        reason: String,
        /// Length of the suspension; none: until told otherwise.
        lasts: Option<Duration>,
    },
    /// End a suspension: activate again.
    Resume,
    /// Go back to the last good system before this one; where a system awaits its
    /// first boot, to what was the default before it.
    Rollback {
        /// Commit to go back to; none: whichever comes next.
        to: Option<Prefix>,
        /// Reason in the person's words.
        reason: String,
    },
}

/// The memory afterwards and what to answer; or why it was refused.
type Answered = Result<(Memory, String), String>;

/// The first seven or more digits of a commit's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Checks the digits: 7 to 40 hexadecimal ones.
    pub fn parse(text: &str) -> Result<Self, String> {
        let good = (7..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if good {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            let shown: String = text.chars().take(60).collect();
            Err(format!("{shown:?} is not a commit: give 7 to 40 hexadecimal digits"))
        }
    }

    /// Whether the prefix begins that commit's id.
    pub fn matches(&self, commit: Commit) -> bool {
        commit.to_string().starts_with(&self.0)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the memory afterwards and what to answer; or why the request was refused.
pub fn answer(
    request: &Request,
    policy: &Policy,
    memory: &Memory,
    seen: &Seen,
    now: Now,
) -> Result<(Memory, String), String> {
    match request {
        Request::Accept(prefix) => accept(prefix, policy, memory, seen, now),
        Request::Retry(prefix) => retry(prefix.as_ref(), policy, memory, seen, now),
        Request::Confirm(prefix) => gates::confirm(prefix, policy, memory),
        Request::Suspend { reason, lasts } => gates::suspend(reason, *lasts, memory, seen, now),
        Request::Resume => gates::resume(memory),
        Request::Rollback { to, reason } => gates::rollback(to.as_ref(), reason, memory, seen, now),
    }
}

fn accept(prefix: &Prefix, policy: &Policy, memory: &Memory, seen: &Seen, now: Now) -> Answered {
    let standings = select(policy, memory, seen, now).standings;
    let refused: Vec<Commit> = standings
        .iter()
        .filter_map(|standing| match standing {
            Standing::ForcePush(head) | Standing::Rewind(head) => Some(*head),
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_)
            | Standing::TooLarge(_) => None,
        })
        .collect();
    if let Some(head) = refused.iter().copied().find(|head| prefix.matches(*head)) {
        let mut memory = memory.clone();
        memory.allowed = Some(head);
        return Ok((memory, format!("{} is accepted", head.short())));
    }
    if let Some(commit) = refused_without_agent(memory, seen).filter(|c| prefix.matches(*c)) {
        let mut memory = memory.clone();
        memory.without_agent = Some(commit);
        let then = "it is put back unless something in it judges it good in time";
        return Ok((memory, format!("{} is accepted without an agent; {then}", commit.short())));
    }
    if memory.accepted.as_ref().is_some_and(|accepted| prefix.matches(accepted.commit)) {
        return Err(format!("{prefix} is the accepted head already"));
    }
    match refused.first() {
        Some(head) => Err(format!("{prefix} is not waiting to be accepted; {} is", head.short())),
        None => Err(format!("{prefix} is not waiting to be accepted; no head is")),
    }
}

/// Returns the target, if its system was refused for having no agent.
fn refused_without_agent(memory: &Memory, seen: &Seen) -> Option<Commit> {
    let found = seen.preflight.as_ref()?;
    let refusal = found.refusal.as_ref()?;
    let knows = |known: &&KnownSystem| known.system == found.system;
    let target = memory.target.as_ref()?.commit;
    let concerned = memory.systems.iter().filter(knows).any(|known| known.commit == target);
    (refusal.cause == RefusalCause::NoAgent && concerned).then_some(target)
}

fn retry(
    prefix: Option<&Prefix>,
    policy: &Policy,
    memory: &Memory,
    seen: &Seen,
    now: Now,
) -> Answered {
    let meant = |commit: Commit| prefix.is_none_or(|prefix| prefix.matches(commit));
    let meant_system = |system: &StorePath| {
        let mut commits = memory.systems.iter().filter(|known| known.system == *system);
        prefix.is_none() || commits.any(|known| meant(known.commit))
    };
    let mut after = memory.clone();
    after.troubles.retain(|trouble| match &trouble.subject {
        Subject::Commit { commit, .. } => !meant(*commit),
        Subject::System { system } => !meant_system(system),
    });
    // What would come of it is not held against it either.
    let asked = after.experiment.take_if(|experiment| meant_system(&experiment.system));
    let unpublished = after
        .publishing
        .unfinished
        .take_if(|unfinished| policy.publish.is_some() && meant_system(&unfinished.what.system));
    let undone = match select(policy, memory, seen, now).testing {
        Testing::UndoneByReboot(head) => meant(head),
        Testing::Absent | Testing::Followed(_) | Testing::Stale(_) => false,
    };
    if undone {
        after.tested = None;
    }
    // What was refused before it was touched is looked at again.
    let refused = seen
        .preflight
        .as_ref()
        .is_some_and(|found| found.refusal.is_some() && meant_system(&found.system));
    let lifted = memory.troubles.len() - after.troubles.len()
        + usize::from(asked.is_some())
        + usize::from(unpublished.is_some())
        + usize::from(refused);
    match (lifted, undone, prefix) {
        (0, false, Some(prefix)) => Err(format!("nothing is held back for {prefix}")),
        (0, false, None) => Ok((after, "nothing is held back".into())),
        (_, _, _) => Ok((after, "tried again now".into())),
    }
}
