//! Keeps the memory of a process from being written to disk when the process dies:
//! there are tokens in it, and a watchdog or a full memory ends a process as well as
//! a mistake does.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Forbids core dumps: from here on this process leaves none, nor do the programs that it
/// runs, unless they ask for one.
pub fn forbid() {
    // Only the soft limit: what a system's own scripts start is not ours to bind.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum }) {
        tracing::warn!("core dumps cannot be limited: {error}");
    }
    // A program that takes cores from the kernel over a pipe is not bound by the limit.
    // Only for root, who can read its own /proc all the same.
    if geteuid().is_root()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        tracing::warn!("core dumps cannot be forbidden: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_dumped_and_children_may_ask_for_it() {
        let before = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: before, maximum: before }).unwrap();
        forbid();
        let after = getrlimit(Resource::Core);
        assert_eq!((after.current, after.maximum), (Some(0), before));
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable == DumpableBehavior::NotDumpable, geteuid().is_root());
    }
}
