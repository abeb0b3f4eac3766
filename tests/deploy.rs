//! From a pushed commit to a verified running system: the real agent, real
//! git over HTTPS, real Nix. Each file is a kind of trouble.

use crate::support::rig::Rig;
use crate::support::system::Host;

mod apart;
mod boots;
mod branches;
pub(crate) mod builds;
mod checks;
mod deaths;
mod directories;
mod explaining;
mod gates;
mod hands;
mod heads;
mod matrix;
mod network;
mod publishing;
mod settings;
mod specialisations;
mod state;
mod switching;

#[test]
fn a_pushed_commit_becomes_the_running_and_default_system() {
    let mut rig = Rig::new();
    let commit = rig.push("release", &Host::new("one"));
    rig.start();
    let status = rig.wait_in_sync(commit);
    assert_eq!(rig.version(), "one");
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());
    // A job that has told what came of it is waited for, and is no state of the host.
    assert!(!rig.log().contains("waits for an earlier job"), "{}", rig.log());
}
