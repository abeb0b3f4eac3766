//! Polling and fetching over ssh, from a real sshd.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use fort_agent::git::{Connection, FetchError, PollError, Relation, Remote, Reply, Request};

use super::host::{Host, run};
use crate::support::rig::Rig;
use crate::support::sshd::{Sshd, free_port};
use crate::support::system;
use crate::support::work::git;

fn poll(remote: &Remote) -> Result<usize, PollError> {
    Connection::open(remote)?.heads(&["refs/heads/main"]).map(|heads| heads.len())
}

fn fetch(host: &Host, remote: &Remote) -> Result<Reply, FetchError> {
    run(&Request { remote: remote.clone(), ..host.request(&["main"]) })
}

/// The same failure, polling and fetching; it has no line break, and leaves no
/// ssh running.
fn refused(sshd: &Sshd, host: &Host, remote: &Remote) -> PollError {
    let polled = poll(remote).unwrap_err();
    let FetchError::Remote(fetched) = fetch(host, remote).unwrap_err() else { panic!() };
    assert_eq!(polled, fetched);
    assert!(!polled.to_string().contains('\n'), "{polled:?}");
    let key = std::fs::read_to_string(sshd.file("key")).unwrap();
    let secret = key.lines().nth(2).unwrap();
    assert!(!format!("{polled:?}").contains(secret));
    assert_eq!(sshd.clients(), [0_u32; 0]);
    println!("{polled}");
    polled
}

#[test]
fn a_head_is_polled_and_fetched_over_ssh() {
    for protocol in ["AcceptEnv GIT_PROTOCOL\n", ""] {
        let (host, sshd) = (Host::new(), Sshd::start_with(protocol));
        let remote = sshd.remote(&host.repo.bare);
        let first = host.repo.work.head();
        let mut connection = Connection::open(&remote).unwrap();
        let names = ["refs/heads/main", "refs/heads/mai"];
        let heads = connection.heads(&names).unwrap();
        assert_eq!(heads.into_iter().collect::<Vec<_>>(), [(names[0].to_owned(), first)]);
        assert_eq!(fetch(&host, &remote).unwrap().heads["main"], first);

        let second = host.repo.work.write("x", "x").commit("second");
        host.repo.work.push("main");
        host.repo.work.push("main2");
        assert_eq!(connection.heads(&names).unwrap()[names[0]], second, "never an old answer");
        let compare = vec![(first, second)];
        let request = Request { remote, compare, ..host.request(&["main"]) };
        let reply = run(&request).unwrap();
        assert_eq!((reply.heads["main"], reply.recloned), (second, false));
        assert_eq!(reply.relations[0].relation, Relation::Ahead);
        assert_eq!(sshd.clients(), [0_u32; 0]);
        host.assert_nothing_is_left_behind();
        host.fsck();
        assert_eq!(host.forge.counts().requests, 0);
    }
}

#[test]
fn a_path_is_one_word_to_the_far_sides_shell() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let odd = sshd.file("it's $(touch pwned)! \"here\".git");
    std::fs::rename(&host.repo.bare, &odd).unwrap();
    let mut remote = sshd.remote(&odd);
    remote.url = remote.url.replace(' ', "%20").replace('"', "%22");
    assert_eq!(poll(&remote), Ok(1));
}

#[test]
fn another_host_key_is_refused_and_said() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let remote = sshd.remote(&host.repo.bare);
    let file = sshd.file("known_hosts");
    sshd.know(&std::fs::read_to_string(sshd.file("stranger.pub")).unwrap());
    let changed = refused(&sshd, &host, &remote);
    assert_eq!(changed, PollError::HostKeyChanged { file: file.clone() });
    sshd.know("");
    assert_eq!(refused(&sshd, &host, &remote), PollError::HostKeyUnknown { file: file.clone() });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "", "nothing is learned");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(refused(&sshd, &host, &remote), PollError::Setup(_)));
}

#[test]
fn a_key_that_is_not_accepted_is_named() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let mut remote = sshd.remote(&host.repo.bare);
    let file = sshd.file("stranger");
    remote.ssh_key_file = Some(file.clone());
    assert_eq!(refused(&sshd, &host, &remote), PollError::KeyRefused { file: file.clone() });
    // With its public half beside it, ssh would not get as far as reading it.
    std::fs::remove_file(sshd.file("stranger.pub")).unwrap();
    std::fs::write(&file, "garbage").unwrap();
    let error = refused(&sshd, &host, &remote);
    assert!(error.to_string().contains("not a key that ssh can read"), "{error}");
    std::fs::write(&file, "").unwrap();
    assert_eq!(refused(&sshd, &host, &remote), PollError::NoKey { file: file.clone() });
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused(&sshd, &host, &remote), PollError::NoKey { file });
}

#[test]
fn a_key_that_others_can_read_is_said() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let key = sshd.file("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refused(&sshd, &host, &sshd.remote(&host.repo.bare));
    assert!(error.to_string().contains("let nobody else read it"), "{error}");
}

#[test]
fn a_missing_repository_is_said() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let remote = sshd.remote(&sshd.file("absent.git"));
    assert_eq!(refused(&sshd, &host, &remote), PollError::NoRepository);
}

#[test]
fn a_closed_port_and_an_unknown_name_are_unreachable() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let mut remote = sshd.remote(&host.repo.bare);
    for (address, word) in
        [(free_port().to_string(), "refused"), ("no-such-host.invalid".into(), "resolve")]
    {
        remote.url = format!("ssh://git@{address}/x.git");
        let error = refused(&sshd, &host, &remote);
        assert!(matches!(&error, PollError::Unreachable(t) if t.contains(word)), "{error:?}");
    }
}

#[test]
fn a_port_that_accepts_and_says_nothing_is_stalled() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let mut remote = sshd.remote(&host.repo.bare);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    remote.url = format!("ssh://git@{}/x.git", silent.local_addr().unwrap());
    remote.timeout = Duration::from_millis(700);
    let began = Instant::now();
    assert_eq!(refused(&sshd, &host, &remote), PollError::Stalled { after: remote.timeout });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_far_side_that_says_nothing_or_nothing_of_git_is_told_apart() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let mut remote = sshd.remote(&host.repo.bare);
    let public = std::fs::read_to_string(sshd.file("key.pub")).unwrap();
    let forced = |command: &str| {
        let line = format!("command=\"{command}\" {public}");
        std::fs::write(sshd.file("authorized_keys"), line).unwrap();
    };
    forced("echo no such thing here >&2; exit 3");
    let error = refused(&sshd, &host, &remote);
    let said = "the far side says: no such thing here".to_owned();
    assert_eq!(error, PollError::Protocol(said));
    forced("yes welcome");
    assert!(matches!(refused(&sshd, &host, &remote), PollError::Protocol(_)));
    remote.timeout = Duration::from_secs(3);
    forced("exec sleep 20");
    assert_eq!(refused(&sshd, &host, &remote), PollError::Stalled { after: remote.timeout });
}

#[test]
fn a_key_or_known_hosts_behind_a_link_of_somebody_else_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "giving a link away needs root");
    let (host, sshd) = (Host::new(), Sshd::start());
    let good = sshd.remote(&host.repo.bare);
    let link = |name: &str| {
        let link = sshd.file(&format!("link-to-{name}"));
        std::os::unix::fs::symlink(sshd.file(name), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
        Some(link)
    };
    for remote in [
        Remote { ssh_key_file: link("key"), ..good.clone() },
        Remote { known_hosts: link("known_hosts"), ..good.clone() },
    ] {
        let PollError::Setup(said) = refused(&sshd, &host, &remote) else { panic!() };
        assert!(
            said.contains("by a link of user 65534, which leads to a file of user 0"),
            "{said}"
        );
    }
    assert_eq!(poll(&good), Ok(1));
}

#[test]
fn a_url_or_a_path_that_ssh_could_take_for_an_option_is_refused() {
    let (host, sshd) = (Host::new(), Sshd::start());
    let good = sshd.remote(&host.repo.bare);
    for url in ["ssh://-oProxyCommand=x/r", "ssh://u:pa55@h/x", "ssh://h/%0a"] {
        let remote = Remote { url: url.into(), ..good.clone() };
        let error = poll(&remote).unwrap_err();
        assert!(matches!(error, PollError::Setup(_)), "{url}: {error:?}");
        assert!(!format!("{error:?}").contains("pa55"), "{error:?}");
    }
    for path in ["/a b", "/%h", "~/x", "/x\"y", "/${HOME}"] {
        let remote = Remote { known_hosts: Some(path.into()), ..good.clone() };
        assert!(matches!(poll(&remote), Err(PollError::Setup(_))), "{path}");
        let remote = Remote { ssh_key_file: Some(path.into()), ..good.clone() };
        assert!(matches!(poll(&remote), Err(PollError::Setup(_))), "{path}");
    }
}

#[test]
fn the_agent_deploys_from_a_remote_over_ssh() {
    let mut rig = Rig::new();
    let sshd = Sshd::start();
    let commit = rig.push("release", &system::Host::new("one"));
    rig.settings.remotes = Some(format!(
        "[[remote]]\nname = \"origin\"\nurl = \"{}\"\nssh_key_file = \"{}\"\nknown_hosts = \
         \"{}\"\ntimeout = \"5s\"\n",
        sshd.url(&rig.repo.bare),
        sshd.file("key").display(),
        sshd.file("known_hosts").display(),
    ));
    rig.start();
    rig.wait_in_sync(commit);
    assert_eq!(rig.version(), "one");
    assert_eq!(rig.forge.counts().requests, 0);
    let log = rig.log();
    let key = std::fs::read_to_string(sshd.file("key")).unwrap();
    assert!(!log.contains(key.lines().nth(2).unwrap()), "{log}");
    assert_eq!(git(&rig.repo.bare, 0, &["rev-parse", "release"]), commit.to_string());
}
