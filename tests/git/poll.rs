//! Polling: what it costs, what it tells, and how each failure is named.

use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::time::Duration;

use fort_agent::git::{Connection, PollError, Remote};

use crate::support::forge::{Fault, Forge, Repo, TOKEN};

fn forge_with_main() -> (Forge, Repo, Remote) {
    let forge = Forge::start();
    let repo = forge.repo("infra");
    repo.work.write("a", "1").commit("first");
    repo.work.push("main");
    let remote = forge.remote(&repo);
    (forge, repo, remote)
}

fn poll(remote: &Remote) -> Result<usize, PollError> {
    Connection::open(remote)?.heads(&["refs/heads/main"]).map(|heads| heads.len())
}

/// Polls once with a fault, on a new connection and on a kept one: both must
/// give the same, and the token must not be in it.
fn polled_with(fault: Fault) -> PollError {
    let (forge, _repo, mut remote) = forge_with_main();
    remote.timeout = Duration::from_millis(600);
    let mut kept = Connection::open(&remote).unwrap();
    forge.fault(fault);
    let on_new = poll(&remote).unwrap_err();
    let on_kept = kept.heads(&["refs/heads/main"]).unwrap_err();
    assert_eq!(
        std::mem::discriminant(&on_new),
        std::mem::discriminant(&on_kept),
        "new: {on_new} kept: {on_kept}"
    );
    for error in [&on_new, &on_kept] {
        let told = format!("{error} {error:?} {}", serde_json::to_string(error).unwrap());
        assert!(!told.contains(TOKEN) && !error.to_string().contains('\n'), "{told}");
    }
    println!("{on_new}\n{on_kept}");
    forge.fault(Fault::None);
    assert_eq!(poll(&remote), Ok(1), "it works again");
    on_new
}

#[test]
fn a_poll_tells_where_a_branch_is() {
    let (_forge, repo, remote) = forge_with_main();
    let mut connection = Connection::open(&remote).unwrap();
    let first = repo.work.head();
    assert_eq!(connection.heads(&["refs/heads/main"]).unwrap()["refs/heads/main"], first);
    let second = repo.work.write("a", "2").commit("second");
    repo.work.push("main");
    assert_eq!(connection.heads(&["refs/heads/main"]).unwrap()["refs/heads/main"], second);
}

#[test]
fn a_branch_that_only_begins_with_the_name_is_another() {
    let (_forge, repo, remote) = forge_with_main();
    repo.work.commit("other");
    repo.work.push("main2");
    let mut connection = Connection::open(&remote).unwrap();
    let heads = connection.heads(&["refs/heads/main", "refs/heads/mai"]).unwrap();
    assert_eq!(heads.keys().collect::<Vec<_>>(), ["refs/heads/main"]);
    assert_ne!(heads["refs/heads/main"], repo.work.head());
}

#[test]
fn a_poll_is_one_request_of_less_than_a_kilobyte() {
    let (forge, repo, remote) = forge_with_main();
    for n in 0..50 {
        repo.work.push(&format!("topic-{n}"));
    }
    let mut connection = Connection::open(&remote).unwrap();
    connection.heads(&["refs/heads/main"]).unwrap();
    let before = forge.counts();
    for _ in 0..10 {
        connection.heads(&["refs/heads/main"]).unwrap();
    }
    let after = forge.counts();
    let (up, down) = (after.received - before.received, after.sent - before.sent);
    println!("a poll: {} B up, {} B down", up / 10, down / 10);
    assert_eq!(after.requests - before.requests, 10);
    assert_eq!(after.connections, before.connections);
    assert!(up + down < 10_000, "{up} up, {down} down");
}

#[test]
fn the_first_request_carries_the_token() {
    let (forge, _repo, remote) = forge_with_main();
    poll(&remote).unwrap();
    let counts = forge.counts();
    assert_eq!((counts.requests, counts.authorized), (2, 2), "no 401 first");
}

#[test]
fn a_connection_that_the_forge_closed_is_made_anew() {
    let (forge, _repo, remote) = forge_with_main();
    let mut connection = Connection::open(&remote).unwrap();
    connection.heads(&["refs/heads/main"]).unwrap();
    forge.disconnect();
    // The close and the next request race: an error then is legitimate, but
    // it is followed by a new connection that works.
    if connection.heads(&["refs/heads/main"]).is_err() {
        assert_eq!(poll(&remote), Ok(1));
    }
}

#[test]
fn no_token_then_a_token_then_another() {
    let (forge, _repo, remote) = forge_with_main();
    let file = forge.token_file();
    std::fs::remove_file(&file).unwrap();
    let no_token = Err(PollError::NoToken { file: file.clone() });
    assert_eq!(poll(&remote), no_token);
    std::fs::write(&file, " \n").unwrap();
    assert_eq!(poll(&remote), no_token);
    assert_eq!(forge.counts().requests, 0, "nothing is asked without a token");

    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut connection = Connection::open(&remote).unwrap();
    assert!(connection.heads(&["refs/heads/main"]).is_ok());

    forge.accept_token("another");
    std::fs::write(&file, "another").unwrap();
    assert!(connection.heads(&["refs/heads/main"]).is_ok(), "the new token is used at once");

    forge.accept_token("a third");
    assert_eq!(
        connection.heads(&["refs/heads/main"]),
        Err(PollError::Unauthorized { file: Some(file.clone()) })
    );
    std::fs::write(&file, "a third").unwrap();
    assert_eq!(poll(&remote), Ok(1));
}

#[test]
fn a_token_file_that_holds_no_token_is_told_apart_from_a_missing_one() {
    let (forge, _repo, mut remote) = forge_with_main();
    let file = forge.token_file();
    for nonsense in [&b"two\nlines\n"[..], b"\xff\xfe", &[b'x'; 20_000]] {
        std::fs::write(&file, nonsense).unwrap();
        assert!(matches!(poll(&remote), Err(PollError::Setup(_))));
    }
    remote.token_file = Some(forge.dir().to_owned());
    assert!(matches!(poll(&remote), Err(PollError::Setup(_))));
    assert_eq!(forge.counts().requests, 0);
}

#[test]
fn a_link_of_somebody_else_leads_to_no_file_of_roots() {
    assert!(rustix::process::geteuid().is_root(), "giving a link away needs root");
    const NOBODY: u32 = 65534;
    let (forge, _repo, remote) = forge_with_main();
    // Whoever serves a token can put into its directory what it likes.
    let theirs = forge.dir().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let link = |name: &str, to: &Path| {
        let link = theirs.join(name);
        symlink(to, &link).unwrap();
        lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
        link
    };
    let token = forge.token_file();
    let to_token = link("token", &token);
    let on_the_way = link("way", forge.dir()).join(token.file_name().unwrap());
    let to_ca = link("ca", &forge.ca_file());
    for odd in [
        Remote { token_file: Some(to_token.clone()), ..remote.clone() },
        Remote { token_file: Some(on_the_way), ..remote.clone() },
        Remote { ca_file: Some(to_ca), ..remote.clone() },
    ] {
        let Err(PollError::Setup(said)) = poll(&odd) else { panic!("{odd:?}") };
        assert!(
            said.contains("by a link of user 65534, which leads to a file of user 0"),
            "{said}"
        );
    }
    assert_eq!(forge.counts().requests, 0);

    // A link to what is its owner's, and root's own to what is another's.
    chown(&token, Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(poll(&Remote { token_file: Some(to_token), ..remote.clone() }), Ok(1));
    let ours = theirs.join("ours");
    symlink(&token, &ours).unwrap();
    assert_eq!(poll(&Remote { token_file: Some(ours), ..remote }), Ok(1));
}

#[test]
fn a_token_is_never_sent_in_the_clear() {
    let (forge, _repo, mut remote) = forge_with_main();
    remote.url = remote.url.replace("https://", "http://");
    assert!(matches!(poll(&remote), Err(PollError::Setup(_))));
    assert_eq!(forge.counts().connections, 0);
}

#[test]
fn a_secret_in_the_url_is_refused_and_not_repeated() {
    let (_forge, _repo, mut remote) = forge_with_main();
    for url in ["https://u:pa55@127.0.0.1/x.git", "ssh://u:pa55@h/x", "ext::sh -c pa55", "pa55"] {
        remote.url = url.into();
        let error = poll(&remote).unwrap_err();
        assert!(matches!(error, PollError::Setup(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("pa55"), "{error:?}");
    }
}

#[test]
fn an_unknown_issuer_says_so() {
    let (_forge, _repo, mut remote) = forge_with_main();
    let other = Forge::start();
    for ca_file in [None, Some(other.ca_file())] {
        remote.ca_file = ca_file;
        let error = poll(&remote).unwrap_err();
        assert!(matches!(&error, PollError::Tls(t) if t.contains("unknown issuer")), "{error:?}");
    }
}

#[test]
fn a_ca_file_without_a_certificate_is_named() {
    let (forge, _repo, mut remote) = forge_with_main();
    for file in [forge.dir().join("absent"), forge.token_file()] {
        remote.ca_file = Some(file.clone());
        let error = poll(&remote).unwrap_err();
        let named = file.display().to_string();
        assert!(matches!(&error, PollError::Setup(t) if t.contains(&named)), "{error:?}");
    }
}

#[test]
fn an_unknown_host_name_says_so() {
    let (_forge, _repo, mut remote) = forge_with_main();
    remote.url = "https://no-such-host.invalid/x.git".into();
    let error = poll(&remote).unwrap_err();
    assert!(matches!(&error, PollError::Unreachable(t) if t.contains("lookup")), "{error:?}");
}

#[test]
fn a_401_names_the_token_file() {
    assert!(matches!(polled_with(Fault::Status(401)), PollError::Unauthorized { file: Some(_) }));
}

#[test]
fn a_403_is_forbidden() {
    assert_eq!(polled_with(Fault::Status(403)), PollError::Forbidden);
}

#[test]
fn a_404_is_not_found() {
    assert_eq!(polled_with(Fault::Status(404)), PollError::NotFound);
}

#[test]
fn a_500_is_told_with_its_number() {
    assert_eq!(polled_with(Fault::Status(500)), PollError::Status(500));
}

#[test]
fn a_web_page_is_not_git() {
    let error = polled_with(Fault::Html);
    assert_eq!(error, PollError::NotGit { content: "a web page".into() });
}

#[test]
fn a_line_of_the_servers_own_is_told_as_such() {
    let words = "access denied or repository not exported: /infra.git\n";
    let error = polled_with(Fault::Says(words.into()));
    assert_eq!(error, PollError::Said(words.trim().into()));
    assert!(error.to_string().starts_with("the forge says: access denied"), "{error}");
}

#[test]
fn a_repository_whose_objects_have_other_names_is_told_as_such() {
    let (_forge, repo, remote) = forge_with_main();
    std::fs::remove_dir_all(&repo.bare).unwrap();
    let git = std::process::Command::new("git")
        .args(["init", "--quiet", "--bare", "--object-format=sha256"])
        .arg(&repo.bare)
        .status();
    assert!(git.unwrap().success());
    let format = || Err(PollError::ObjectFormat { format: "sha256".into() });
    assert_eq!(poll(&remote), format());
    let file = Remote { url: format!("file://{}", repo.bare.display()), ..remote };
    assert_eq!(poll(&file), format());
}

#[test]
fn a_reset_connection_is_unreachable() {
    assert!(matches!(polled_with(Fault::Reset), PollError::Unreachable(_)));
}

#[test]
fn a_closed_port_is_unreachable() {
    let error = polled_with(Fault::Refused);
    assert!(matches!(&error, PollError::Unreachable(t) if t.contains("refused")), "{error:?}");
}

#[test]
fn silence_is_stalled() {
    assert!(matches!(polled_with(Fault::Hang), PollError::Stalled { .. }));
}

#[test]
fn a_drip_is_stalled_although_something_comes() {
    assert!(matches!(polled_with(Fault::Drip), PollError::Stalled { .. }));
}

#[test]
fn a_port_that_accepts_and_says_nothing_is_stalled() {
    let (_forge, _repo, mut remote) = forge_with_main();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    remote.url = format!("https://{}/x.git", silent.local_addr().unwrap());
    remote.timeout = Duration::from_millis(300);
    let error = poll(&remote).unwrap_err();
    assert!(matches!(error, PollError::Stalled { .. }), "{error:?}");
}

#[test]
fn an_async_program_polls_on_a_blocking_thread() {
    let (_forge, _repo, remote) = forge_with_main();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let open = move || Connection::open(&remote).unwrap();
        let mut connection = tokio::task::spawn_blocking(open).await.unwrap();
        let poll = move || {
            let heads = connection.heads(&["refs/heads/main"]).unwrap();
            (connection, heads.len())
        };
        let (connection, heads) = tokio::task::spawn_blocking(poll).await.unwrap();
        assert_eq!(heads, 1);
        drop(connection);
    });
}

#[test]
fn a_redirect_is_named_and_the_token_stays_home() {
    let elsewhere = Forge::start();
    let (forge, _repo, remote) = forge_with_main();
    forge.fault(Fault::Redirect(elsewhere.url()));
    let error = poll(&remote).unwrap_err();
    assert_eq!(error, PollError::Redirected { to: format!("{}/infra.git", elsewhere.url()) });
    assert_eq!(elsewhere.counts().connections, 0);
}

#[test]
fn a_file_remote_is_polled_too() {
    let (_forge, repo, mut remote) = forge_with_main();
    remote.url = format!("file://{}", repo.bare.display());
    assert_eq!(poll(&remote), Ok(1));
}
