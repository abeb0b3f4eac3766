//! The last part of the story: the cluster gets a binary cache, and a second
//! host downloads what the first one built.

use serde_json::Value;

use crate::stage::{Stage, Told, configure, is_in_sync};
use crate::support::attic::{Attic, CACHE, Fault, Kind};
use crate::support::rig::{HOST, Rig};

/// How long a build takes that nobody should have to wait for twice.
const BUILD_SECONDS: u32 = 2;
/// Bytes a second of the cache's line, where there is something to look at.
const SLOW_UP: u64 = 1_000_000;
const SLOW_DOWN: u64 = 6_000;

/// The first host is told of a cache, and gives it what it has.
pub(crate) fn is_published(stage: &mut Stage) -> Told {
    stage.step(
        "The cluster gets a binary cache",
        "An Attic server, private, with a key of its own. The host is told where it is. What it \
         has found to be good it gives there, in the background; beside the deployments, which \
         never wait for it. (The line is slow for a moment, so that there is something to see.)",
    );
    let cache = Attic::start_in(&stage.dir.join("cache"));
    let token = stage.dir.join("cache-token");
    std::fs::write(&token, format!("{}\n", cache.token_rw())).map_err(|error| error.to_string())?;
    let section = format!(
        "[cache]\nendpoint = \"{}\"\nname = \"{CACHE}\"\ntoken_file = \"{}\"\n\
         public_key = \"{}\"\n",
        cache.endpoint(),
        token.display(),
        cache.public_key()
    );
    println!("{}", stage.paint("2", "# more in its configuration:"));
    for line in section.lines() {
        println!("{}", stage.paint("2", &format!("#   {line}")));
    }
    println!("{}", stage.paint("2", "# and the agent is started again"));
    stage.rig.stop();
    stage.rig.settings.sections.push_str(&section);
    cache.fault_for(Kind::Upload, Fault::Slow(SLOW_UP));
    stage.cache = Some(cache);
    stage.rig.start();
    stage.until("something on its way to the cache", |status| {
        status["publish"]["progress"]["bytes"].as_u64() > Some(0)
    })?;
    stage.run("fort-agent status")?;
    stage.cache()?.fault(Fault::None);
    let status = stage.until("published", has_published)?;
    sees_published(stage, &status)
}

/// A second host gets a commit that the first one had to build.
pub(crate) fn is_downloaded(stage: &mut Stage) -> Told {
    stage.step(
        "A second host downloads what the first one built",
        &format!(
            "Version 1.4 comes in several parts and takes {BUILD_SECONDS} seconds to build. \
             The first host builds it, finds it good and publishes it."
        ),
    );
    stage.edit(|host| {
        host.version = "1.4".into();
        host.parts = 3;
        host.build_seconds = BUILD_SECONDS;
    });
    stage.run("git commit -q -a -m \"Version 1.4\"")?;
    stage.run("git push -q")?;
    let head = stage.head();
    let status =
        stage.until("published", |status| is_in_sync(status, head) && has_published(status))?;
    stage.run("fort-agent history -n 1")?;
    sees_published(stage, &status)?;
    let system = status["running"]["system"].as_str().unwrap_or_default().to_owned();

    stage.say(
        "A new machine is to take its place one day: the same name, the same branch and the same \
         cache, nothing in its store, and an agent of its own.",
    );
    let mut second = stage.rig.beside(&stage.dir.join("second"));
    // Later than the first, so that it finds what that one has published.
    configure(&mut second, "10s");
    let cache = stage.cache()?;
    let sections = &stage.rig.settings.sections;
    let from = sections.find("[cache]").ok_or("the first host has no cache")?;
    second.settings.sections.push_str(&sections[from..]);
    cache.fault_for(Kind::Nar, Fault::Slow(SLOW_DOWN));
    let before = cache.counts();
    second.start();
    stage.second = Some(second);
    let status = stage.until_on_second("the system on its way", |status| {
        let progress = &status["deployment"]["progress"];
        progress["phase"] == "fetching" && progress["current"] == format!("system-{HOST}")
    })?;
    stage.run_on_second("fort-agent status")?;
    if status["deployment"]["progress"]["to_build"] != 0 {
        return Err(format!("something is to be built there: {}", status["deployment"]));
    }
    stage.cache()?.fault(Fault::None);
    stage.say("And a moment later:");
    stage.until_on_second("in sync", |status| is_in_sync(status, head) && has_published(status))?;
    stage.run_on_second("fort-agent status")?;
    let second = stage.second()?;
    stage.see_equal("the second host's page says", &second.version(), "1.4")?;
    let after = stage.cache()?.counts();
    let (paths, bytes) = (after.nar - before.nar, after.sent - before.sent);
    stage.see(&format!("{paths} paths came from the cache, {bytes} bytes in all"), paths >= 4)?;
    stage.see("it had nothing to give", after.uploads == before.uploads)?;
    was_not_built(stage, &system)
}

/// Nix marks what it built itself, and keeps the signature of what it fetched.
fn was_not_built(stage: &Stage, system: &str) -> Told {
    stage.say(
        "What Nix knows of it: the first host made it (`ultimate`), the second one has it by the \
         signature of the cache's key.",
    );
    let line = format!("nix path-info --sigs {system}");
    stage.run(&line)?;
    stage.run_on_second(&line)?;
    for (rig, built) in [(&stage.rig, true), (stage.second()?, false)] {
        for path in closure(rig, system) {
            let info = rig.store.run("nix", &["path-info", "--sigs", &path]);
            // What the repository itself contains is neither built nor fetched.
            let source = info.contains("ca:");
            let right =
                info.contains("ultimate") == built && info.contains(&format!("{CACHE}:")) != built;
            if !source && !right {
                return Err(format!("this is not so: {info}"));
            }
        }
    }
    stage
        .see("all that it consists of was built on the first host, and nothing on the second", true)
}

fn closure(rig: &Rig, system: &str) -> Vec<String> {
    let closure = rig.store.run("nix-store", &["--query", "--requisites", system]);
    closure.lines().map(str::to_owned).collect()
}

/// Whether the cache has all of what runs.
fn has_published(status: &Value) -> bool {
    status["publish"]["backlog"] == 0
        && status["publish"]["system"] == status["running"]["system"]
        && status["running"]["system"].is_string()
}

fn sees_published(stage: &Stage, status: &Value) -> Told {
    let system = status["running"]["system"].as_str().unwrap_or_default();
    let (closure, stored) = (closure(&stage.rig, system), stage.cache()?.stored());
    let what = format!("the cache has it all, {} paths", closure.len());
    stage.see(&what, closure.iter().all(|path| stored.contains(path)))
}
