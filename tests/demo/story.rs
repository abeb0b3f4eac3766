//! The story: what is pushed, what the host makes of it, and a look whether
//! that is so.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::cache::{is_downloaded, is_published};
use crate::keep::keep;
use crate::stage::{Stage, Told, version};
use crate::support::rig::HOST;
use crate::support::system::Host;

/// The branch that only this host follows.
const TESTING: &str = "release-joker-test";

/// Tells it, in a directory of its own.
pub(crate) fn tell(dir: &Path) -> Told {
    let began = Instant::now();
    let mut stage = Stage::set(dir);
    open(&mut stage)?;
    first_start(&mut stage)?;
    deploys(&mut stage)?;
    fails_to_build(&mut stage)?;
    fails_its_check(&mut stage)?;
    is_reverted(&mut stage)?;
    changes_only_docs(&mut stage)?;
    is_tested(&mut stage)?;
    is_forced(&mut stage)?;
    is_published(&mut stage)?;
    is_downloaded(&mut stage)?;
    stage.step("What happened", "The agent remembers how each deployment ended, and why.");
    stage.run("fort-agent history")?;
    println!("\nAll of it was as claimed, in {} s.", began.elapsed().as_secs());
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        return keep(&stage);
    }
    stage.rig.stop();
    if let Some(mut second) = stage.second {
        second.stop();
    }
    Ok(())
}

fn open(stage: &mut Stage) -> Told {
    println!(
        "{}",
        stage.paint("1;36", "fort-agent: from a pushed commit to a verified running system")
    );
    stage.say(&format!(
        "Everything is real and below {}: a forge ({} over HTTPS with a token and a private CA), \
         a host `{HOST}` with a Nix store of its own ({}, building in its sandbox), and the agent \
         of this checkout; later a binary cache and a second host. Only the systems are small: \
         shaped like NixOS's, made of busybox. The hosts have no systemd, so the agent starts \
         its jobs directly.",
        stage.dir.display(),
        version("git"),
        version("nix"),
    ));
    Ok(())
}

fn first_start(stage: &mut Stage) -> Told {
    stage.step(
        "The agent comes to a host that runs already",
        "Somebody installed version 1.0 by hand. The release branch says the same, so there is \
         nothing to activate: the agent adopts what runs, checks it, and makes it what boots.",
    );
    install(stage)?;
    stage.run("git commit -q -m \"Install joker\"")?;
    stage.run("git push -q -u origin release")?;
    let switches = stage.rig.switches().len();
    stage.rig.start();
    stage.until_in_sync(stage.head())?;
    stage.run("fort-agent status")?;
    let activated = stage.switches_since(switches).iter().any(|action| action == "test");
    stage.see("nothing was activated", !activated)?;
    shows(stage, "1.0")
}

/// As a person would, with Nix and the system's own script.
fn install(stage: &Stage) -> Told {
    let build = || stage.rig.build_by_hand(&Host::new("1.0"));
    // It says by itself what Nix said.
    let system = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).map_err(|_| {
        "Nix cannot build in its sandbox here. It must be root, or be allowed to make user \
         namespaces; in a container it needs more (docker run --privileged)"
    })?;
    println!("{}", stage.paint("2", "# by hand: nix build, and its bin/switch-to-configuration"));
    stage.rig.switch_by_hand(&system);
    Ok(())
}

fn deploys(stage: &mut Stage) -> Told {
    stage.step(
        "A commit that deploys",
        "Version 1.1 is pushed. The host notices, builds it, activates it, checks that its web \
         page and the forge still answer, and only then makes it what boots.",
    );
    let switches = stage.rig.switches().len();
    stage.edit(|host| {
        host.version = "1.1".into();
        host.build_seconds = 1;
    });
    stage.run("git commit -q -a -m \"Version 1.1\"")?;
    stage.run("git push -q")?;
    stage.until("a build", |status| status["state"] == "realising" && is_building(status))?;
    stage.run("fort-agent status")?;
    stage.say("And a moment later:");
    stage.until_in_sync(stage.head())?;
    stage.run("fort-agent status")?;
    stage.see_equal("switches:", &stage.switches_since(switches).join(", "), "test, boot")?;
    shows(stage, "1.1")?;
    boots_what_runs(stage)
}

fn is_building(status: &Value) -> bool {
    status["deployment"]["progress"]["phase"] == "building"
}

fn fails_to_build(stage: &mut Stage) -> Told {
    stage.step(
        "A commit that cannot be built",
        "Version 1.2 does not compile. The host stays as it is, says why, and tries again later \
         in case it was the network's fault.",
    );
    let switches = stage.rig.switches().len();
    stage.edit(|host| {
        host.version = "1.2".into();
        host.build_fails = "main.c:7: error: expected ';' before '}' token".into();
    });
    stage.run("git commit -q -a -m \"Version 1.2\"")?;
    stage.run("git push -q")?;
    let head = stage.head().to_string();
    stage.until("a failed build", |status| {
        status["state"] == "backing-off" && status["last_deployment"]["commit"] == head
    })?;
    stage.run("fort-agent status")?;
    stage.see("no switch was started", stage.switches_since(switches).is_empty())?;
    shows(stage, "1.1")
}

fn fails_its_check(stage: &mut Stage) -> Told {
    stage.step(
        "A commit whose check fails",
        "Now it builds, and activates without an error, but its web page answers 503. The host \
         waits for 3 seconds (`health.timeout`), then puts the old system back. What boots was \
         never touched.",
    );
    let switches = stage.rig.switches().len();
    stage.edit(|host| {
        host.version = "1.2-broken".into();
        host.build_fails = String::new();
    });
    stage.run("git commit -q -a -m \"Make 1.2 compile\"")?;
    stage.run("git push -q")?;
    let head = stage.head().to_string();
    stage.until("a check", |status| {
        status["state"] == "verifying" && status["deployment"]["progress"]["checks"].is_array()
    })?;
    stage.run("fort-agent status")?;
    stage.say("And when the time is over:");
    stage.until("put back", |status| {
        status["state"] == "backing-off"
            && status["last_deployment"]["commit"] == head
            && status["last_deployment"]["verdict"] == "rolled-back"
    })?;
    stage.run("fort-agent status")?;
    stage.see_equal("switches:", &stage.switches_since(switches).join(", "), "test, test")?;
    shows(stage, "1.1")?;
    boots_what_runs(stage)
}

fn is_reverted(stage: &mut Stage) -> Told {
    stage.step(
        "A revert",
        "All three commits are reverted, back to what was there at first. To the host that is a \
         change like any other: 1.0 is still in its store, so nothing is built.",
    );
    stage.run("git revert -n HEAD~3..HEAD")?;
    stage.reread(|host| *host = Host::new("1.0"));
    stage.run("git commit -q -m \"Back to 1.0\"")?;
    stage.run("git push -q")?;
    stage.until_in_sync(stage.head())?;
    stage.run("fort-agent status")?;
    shows(stage, "1.0")?;
    boots_what_runs(stage)
}

fn changes_only_docs(stage: &mut Stage) -> Told {
    stage.step(
        "A commit that changes only documentation",
        "It describes the same system, so there is nothing to switch to; the host still says \
         that it is at the new commit.",
    );
    let switches = stage.rig.switches().len();
    stage.rig.tree.write("README.md", "Our hosts.\n");
    stage.run("git add README.md")?;
    stage.run("git commit -q -m \"Say what this is\"")?;
    stage.run("git push -q")?;
    stage.until_in_sync(stage.head())?;
    stage.run("fort-agent status")?;
    stage.see("no switch was started", stage.switches_since(switches).is_empty())?;
    shows(stage, "1.0")
}

fn is_tested(stage: &mut Stage) -> Told {
    stage.step(
        "A testing branch comes and goes",
        "A branch with this host's name in it is tried on this host alone. It runs until the \
         branch goes or the host reboots, and never becomes what boots.",
    );
    let release = stage.head();
    let default = stage.rig.boot_default();
    stage.run(&format!("git switch -q -c {TESTING}"))?;
    stage.edit(|host| host.version = "2.0-test".into());
    stage.run("git commit -q -a -m \"Try 2.0\"")?;
    stage.run(&format!("git push -q -u origin {TESTING}"))?;
    stage.until_in_sync(stage.head())?;
    stage.run("fort-agent status")?;
    shows(stage, "2.0-test")?;
    stage.see("what boots is as before", stage.rig.boot_default() == default)?;
    stage.say("Enough of it: the branch is deleted, and the release comes back.");
    stage.run("git switch -q release")?;
    stage.reread(|host| host.version = "1.0".into());
    stage.run(&format!("git push -q origin --delete {TESTING}"))?;
    stage.until_in_sync(release)?;
    stage.run("fort-agent status")?;
    shows(stage, "1.0")
}

fn is_forced(stage: &mut Stage) -> Told {
    stage.step(
        "A force-push",
        "The last commit is replaced by another one. History that was deployed has been \
         rewritten, which may be a mistake or an attack: the host holds until a person has \
         looked.",
    );
    stage.edit(|host| host.version = "1.3".into());
    stage.run("git commit -q -a --amend -m \"Version 1.3\"")?;
    stage.run("git push -q --force")?;
    let head = stage.head();
    stage.until("held", |status| {
        status["state"] == "held" && status["held"]["evidence"]["head"] == head.to_string()
    })?;
    stage.run("fort-agent status")?;
    shows(stage, "1.0")?;
    stage.say("A person has looked, and accepts exactly that commit.");
    stage.run(&format!("fort-agent accept {}", head.short()))?;
    stage.until_in_sync(head)?;
    stage.run("fort-agent status")?;
    shows(stage, "1.3")?;
    boots_what_runs(stage)
}

/// The version that the host's service shows.
fn shows(stage: &Stage, version: &str) -> Told {
    stage.see_equal("the host's page says", &stage.rig.version(), version)
}

fn boots_what_runs(stage: &Stage) -> Told {
    let running = std::fs::read_link(stage.rig.root().join("run/current-system"));
    let running = running.ok().map(|path| path.to_string_lossy().into_owned());
    stage.see("what runs is what boots", running.is_some() && stage.rig.boot_default() == running)
}
