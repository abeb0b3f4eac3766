//! systemd's watchdog hears from the loop itself: from nobody else, and not at
//! all while the loop stands still.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::support::rig::{LONG, Rig};
use crate::support::system::Host;

/// Plays the host's service manager: returns the notifications that it receives.
fn listen(rig: &mut Rig) -> Receiver<String> {
    let socket = rig.store.dir().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    // Always read, as by systemd: a full socket would keep the agent waiting.
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut said = [0; 512];
        while let Ok(length) = manager.recv(&mut said) {
            if told.send(String::from_utf8_lossy(&said[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    rig.settings.notify = Some(socket);
    heard
}

#[test]
fn the_watchdog_is_fed_by_a_loop_that_turns_and_by_no_other() {
    let mut rig = Rig::new();
    let one = rig.push("release", &Host::new("one"));
    let heard = listen(&mut rig);
    rig.start();
    let first = heard.recv_timeout(LONG).unwrap();
    assert!(first.contains("READY=1") && first.contains("WATCHDOG=1"), "{first}");
    rig.wait_in_sync(one);
    assert_eq!(heard.recv_timeout(LONG).unwrap().trim(), "WATCHDOG=1");

    // The loop reads the order of each job. A pipe, which nobody but root can put
    // there, keeps it waiting.
    let (aside, name) = (rig.store.dir().join("aside"), "realise-20990101T000000Z-0123abcd-1");
    let pipe = aside.join("spec.json");
    std::fs::create_dir(&aside).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let job = rig.state().join("jobs").join(name);
    std::fs::rename(&aside, &job).unwrap();
    // It polls five times a second: two seconds without a word are a stillness.
    let began = std::time::Instant::now();
    while heard.recv_timeout(Duration::from_secs(2)).is_ok() {
        assert!(began.elapsed() < LONG, "it goes on");
    }
    std::fs::rename(&job, &aside).unwrap();
    drop(std::fs::OpenOptions::new().write(true).open(pipe).unwrap());
    assert_eq!(heard.recv_timeout(LONG).unwrap().trim(), "WATCHDOG=1");
}

#[test]
fn a_loop_that_cannot_look_is_ready_asks_the_remotes_and_does_not_feed_the_watchdog() {
    let mut rig = Rig::new();
    let jobs = rig.state().join("jobs");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(rig.state()).unwrap();
    // A link that leads to itself.
    std::os::unix::fs::symlink("jobs", &jobs).unwrap();
    let heard = listen(&mut rig);
    rig.start();
    let first = heard.recv_timeout(LONG).unwrap();
    assert!(first.contains("READY=1") && !first.contains("WATCHDOG"), "{first}");
    // The very first look failed, and all that there is to say of it is said.
    let status = rig.wait_state("blind");
    let path = jobs.display().to_string();
    assert_eq!(status["blind"]["path"], path);
    assert!(status["reason"].as_str().unwrap().contains(&path), "{status:#}");
    rig.wait_polls();
    assert_eq!(heard.try_recv().ok(), None);
    std::fs::remove_file(&jobs).unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap().trim(), "WATCHDOG=1");
}
