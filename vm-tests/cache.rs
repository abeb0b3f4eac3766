//! Hazard: what one host built is built again by the next, or a cache that is
//! wrong, slow or gone costs a deployment.

use std::path::Path;

use crate::support::shared::attic::{Attic, Fault, Kind, Outcome};
use crate::support::{Cluster, Host, Image, Machine, on, on_each};

/// A server that hosts know by the forge's name.
fn attic(cluster: &Cluster) -> Attic {
    cluster.forge();
    Attic::start_at(&cluster.place("attic"), "forge", &cluster.forge_address(8080), true)
}

/// A host with the agent, under another host's name: it runs that one's systems.
fn like_joker(cluster: &Cluster, attic: &Attic, name: &str) -> Host {
    let key = attic.public_key();
    let cache = format!(
        "[cache]\nendpoint = \"{}\"\nname = \"fort\"\ntoken_file = \"/etc/cache-token\"\n\
         public_key = \"{key}\"\n",
        attic.endpoint()
    );
    let config = format!("hostname = \"joker\"\n{}", cluster.agent_config(&cache));
    Host::new(name, "one").agent(&config)
}

/// Gives a host the cache's token, and the cache's authority beside the host's own.
fn let_in(machine: &Machine, attic: &Attic) {
    machine.write("/etc/cache-token", attic.token_rw().as_bytes());
    machine.set_mode("/etc/cache-token", 0o600);
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    let mut known = machine.read(authorities);
    known += &format!("\n{}", std::fs::read_to_string(attic.ca_file()).unwrap());
    machine.write(authorities, known.as_bytes());
}

/// A server, and a host that knows it.
fn with_a_cache(cluster: &Cluster) -> (Attic, Host, Machine) {
    let attic = attic(cluster);
    let one = like_joker(cluster, &attic, "joker");
    let joker = cluster.installed(&one);
    let_in(&joker, &attic);
    joker.boot();
    (attic, one, joker)
}

fn wait_published(machine: &Machine, system: &str) {
    machine.wait_status("all to be published", |status| {
        status["publish"]["backlog"] == 0 && status["publish"]["system"] == system
    });
}

/// Whether a host built a path itself, and who signed it.
fn origin(machine: &Machine, system: &str) -> (bool, String) {
    let nix = ["nix", "--extra-experimental-features", "nix-command"];
    let info = machine.must(&[&nix[..], &["path-info", "--json", system]].concat());
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let info = info.get(0).or_else(|| info.get(system)).or_else(|| {
        // The newest names paths without the store's directory.
        info.get(Path::new(system).file_name().unwrap().to_str().unwrap())
    });
    let info = info.unwrap();
    (info["ultimate"] == true, info["signatures"].to_string())
}

#[test]
fn what_one_host_built_the_next_one_downloads() {
    on_each(|cluster| {
        let attic = attic(cluster);
        let (joker, penny) =
            (like_joker(cluster, &attic, "joker"), like_joker(cluster, &attic, "penny"));
        let first = cluster.installed(&joker);
        let second = cluster.installed(&penny);
        let_in(&first, &attic);
        let_in(&second, &attic);
        first.boot();
        let mut two = joker.at("two");
        two.knobs.parts = 3;
        let commit = cluster.push("release", &[&two]);
        let status = first.wait_in_sync(commit);
        let system = status["running"]["system"].as_str().unwrap().to_owned();
        wait_published(&first, &system);
        assert_eq!(origin(&first, &system), (true, "[]".into()));
        assert_eq!(attic.sent_again(), [""; 0]);

        second.boot();
        let status = second.wait_in_sync(commit);
        assert_eq!(status["running"]["system"], system.as_str());
        let (built, signatures) = origin(&second, &system);
        assert!(!built && signatures.contains("fort:"), "{built} {signatures}");
        // What came from there need not go back.
        let sent = attic.counts().uploads;
        wait_published(&second, &system);
        assert_eq!(attic.counts().uploads, sent);
        // Nobody else on the host can read what lets it in.
        assert_eq!(second.must(&["stat", "-c", "%a %U", "/var/lib/fort-agent/netrc"]), "600 root");
    });
}

#[test]
fn publishing_goes_on_after_a_power_cut_and_sends_nothing_twice() {
    on(Image::Trixie, |cluster| {
        let (attic, one, joker) = with_a_cache(cluster);
        // One upload is confirmed, the next is cut off in the middle.
        attic.fault_after(1, Kind::Upload, Fault::StallUpload);
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        joker.wait_until("an upload to stall", || {
            attic.upload_log().last().is_some_and(|upload| upload.outcome == Outcome::Open)
                && !attic.stored().is_empty()
        });
        joker.power_cut();
        // As a server does some time after it has last heard of somebody.
        attic.disconnect();
        let there = attic.stored().len();
        attic.fault(Fault::None);
        joker.boot();
        let status = joker.wait_in_sync(commit);
        wait_published(&joker, status["running"]["system"].as_str().unwrap());
        assert!(attic.stored().len() > there, "it was all there before the power was cut");
        assert_eq!(attic.sent_again(), [""; 0]);
        assert_eq!(joker.verdicts(commit), ["good"]);
    });
}

#[test]
fn a_cache_that_is_gone_costs_no_deployment() {
    on(Image::Trixie, |cluster| {
        let (attic, one, joker) = with_a_cache(cluster);
        for (n, fault) in [Fault::Refused, Fault::Hang, Fault::Status(500)].into_iter().enumerate()
        {
            attic.fault(fault.clone());
            let commit = cluster.push("release", &[&one.at(&format!("v{n}"))]);
            joker.wait_in_sync(commit);
            assert_eq!(joker.verdicts(commit), ["good"], "{fault:?}");
        }
        let status = joker.wait_status("why nothing is published", |status| {
            status["publish"]["last_error"].is_string()
        });
        assert_eq!(status["state"], "up-to-date");
        attic.fault(Fault::None);
        wait_published(&joker, status["running"]["system"].as_str().unwrap());
    });
}
