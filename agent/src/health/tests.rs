use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Checks a server that answers `/` with this head, and everything else well.
async fn found(head: &str) -> (String, Result<String, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let root = request[..length].starts_with(b"GET / ");
            let head = if root { head } else { "200 OK" };
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let limit = Duration::from_secs(20);
    let health = Health {
        checks: Vec::new(),
        remotes: Vec::new(),
        branch: String::new(),
        units: None,
        limit,
    };
    let found = tokio::select! {
        found = health.http(&url) => found,
        () = serving => unreachable!(),
    };
    (url, found)
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_fails() {
    let (url, result) = found("302 Found\r\nLocation: /login").await;
    let said = format!("{url} answered 302 to /login, which is not followed");
    assert_eq!(result, Err(said));
    let (url, result) = found("304 Not Modified").await;
    assert_eq!(result, Err(format!("{url} answered 304")));
    let (url, result) = found("204 No Content").await;
    assert_eq!(result, Ok(format!("{url} answered 204")));
    let (url, result) = found("503 Service Unavailable").await;
    assert_eq!(result, Err(format!("{url} answered 503")));
    let (_, result) = found(&format!("301 Moved\r\nLocation: /\u{202e}{}", "x".repeat(999))).await;
    let said = result.unwrap_err();
    assert!(said.len() < 400 && !said.contains('\u{202e}'), "{said}");
}

fn failure(command: &[&str]) -> Failure {
    let health = Health {
        checks: Vec::new(),
        remotes: Vec::new(),
        branch: String::new(),
        units: None,
        limit: Duration::from_secs(30),
    };
    let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(health.command(&words, Vec::new())).unwrap_err()
}

#[test]
fn a_command_that_is_gone_fails_for_good_and_one_that_fails_may_pass_later() {
    let lasting = |command: &[&str]| failure(command).lasting;
    assert!(lasting(&["a-program-that-nobody-has"]));
    assert!(lasting(&[]));
    assert!(!lasting(&["/bin/sh", "-c", "exit 1"]));
    // A service may still put it there.
    assert!(!lasting(&["/nowhere/a-program"]));
}
