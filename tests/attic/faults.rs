//! Each way to misbehave, as a client meets it; and what the server tells of
//! what it saw.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask::{Answer, Ask, Subject, contents, info, unique};
use crate::support::attic::{Attic, Fault, Kind, Outcome};
use crate::support::forge::wait_for;

const LARGE: usize = 100_000;

fn subject() -> Subject {
    Subject::of(Attic::start())
}

/// An upload that is as it should be.
fn upload(subject: &Subject, length: usize) -> (Value, Ask) {
    let nar = contents(length);
    let info = info(&subject.cache, &nar);
    let ask = subject.upload(&info, &nar).bearer(&subject.token(&["r", "w"]));
    (info, ask)
}

fn config(subject: &Subject) -> Ask {
    subject.config(&subject.cache).bearer(&subject.token(&["r", "w"]))
}

/// Whether everything is again as it should be.
fn assert_well(subject: &Subject) {
    subject.ours().fault(Fault::None);
    assert_eq!(upload(subject, 10).1.send().json()["kind"], "Uploaded");
}

#[test]
fn a_failure_comes_as_often_as_asked_for_and_where() {
    let subject = subject();
    subject.ours().fault_next(2, Kind::Upload, Fault::Status(503));
    assert_eq!(config(&subject).send().status, 200);
    let (_, first) = upload(&subject, 10);
    let (code, error, _) = first.send().error();
    assert_eq!((code, error.as_str()), (503, "InternalServerError"));
    assert_eq!(upload(&subject, 10).1.send().status, 503);
    assert_eq!(upload(&subject, 10).1.send().status, 200);
    subject.ours().fault_for(Kind::Upload, Fault::Status(502));
    for _ in 0..3 {
        assert_eq!(upload(&subject, 10).1.send().status, 502);
    }
    assert_eq!(config(&subject).send().status, 200);
    assert_well(&subject);
}

#[test]
fn a_slow_server_takes_its_time_both_ways() {
    let subject = subject();
    let (info, ask) = upload(&subject, LARGE);
    subject.ours().fault(Fault::Slow(200_000));
    let began = Instant::now();
    assert_eq!(ask.send().status, 200);
    let sent = began.elapsed();
    let hash = info["store_path_hash"].as_str().unwrap();
    let path = format!("/{}/nar/{hash}.nar", subject.cache);
    let began = Instant::now();
    let nar = subject.ask("GET", &path).bearer(&subject.token(&["r"])).send();
    assert_eq!(nar.contents().unwrap().len(), LARGE);
    let half = Duration::from_millis(450);
    assert!(sent > half && began.elapsed() > half, "{sent:?}");
    assert_well(&subject);
}

#[test]
fn an_upload_can_be_cut_and_is_not_kept() {
    let subject = subject();
    for length in [1000, LARGE, 5_000_000] {
        subject.ours().fault(Fault::CutUpload);
        let (info, ask) = upload(&subject, length);
        assert!(ask.try_send().is_none());
        let seen = subject.ours().upload_log().pop().unwrap();
        assert_eq!((seen.outcome, seen.store_path), (Outcome::Open, path_in(&info)));
        assert_eq!(subject.ours().stored(), Vec::<String>::new());
    }
    assert_well(&subject);
}

#[test]
fn an_answer_can_be_cut_when_all_is_done() {
    let subject = subject();
    subject.ours().fault(Fault::CutAnswer);
    let (info, ask) = upload(&subject, LARGE);
    let answer = ask.send();
    assert_cut(&answer);
    assert_eq!(subject.ours().stored(), [path_in(&info)]);
    assert_cut(&config(&subject).send());
    assert_well(&subject);
}

/// The head came, and half of the body.
fn assert_cut(answer: &Answer) {
    let announced: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), announced / 2);
}

#[test]
fn a_truncated_answer_is_well_formed_as_far_as_http_goes() {
    let subject = subject();
    subject.ours().fault(Fault::Truncated);
    for answer in [config(&subject).send(), upload(&subject, 10).1.send()] {
        let announced: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, announced));
        assert!(serde_json::from_slice::<Value>(&answer.body).unwrap_err().is_eof());
    }
    assert_well(&subject);
}

#[test]
fn nothing_comes_from_one_that_hangs() {
    let subject = subject();
    for (held, fault) in [Fault::Hang, Fault::StallUpload, Fault::StallAnswer].iter().enumerate() {
        subject.ours().fault(fault.clone());
        let (_, ask) = upload(&subject, LARGE);
        let asking = std::thread::spawn(move || ask.try_send());
        wait_for("it to hang", || subject.ours().counts().held == held as u64 + 1);
        assert!(!asking.is_finished());
        subject.ours().disconnect();
        let answer = asking.join().unwrap();
        match fault {
            Fault::StallAnswer => assert_cut(&answer.unwrap()),
            _ => assert!(answer.is_none()),
        }
    }
    assert_well(&subject);
}

#[test]
fn a_full_disk_is_an_error_of_the_servers() {
    let subject = subject();
    subject.ours().fault(Fault::FullDisk);
    let (info, ask) = upload(&subject, LARGE);
    let (code, error, message) = ask.send().error();
    assert_eq!((code, error.as_str()), (500, "InternalServerError"));
    assert_eq!(message, "The server encountered an internal error or misconfiguration.");
    assert_eq!(subject.ours().stored(), Vec::<String>::new());
    let seen = subject.ours().upload_log().pop().unwrap();
    assert_eq!((seen.outcome, seen.store_path), (Outcome::Refused(500), path_in(&info)));
    assert_well(&subject);
}

#[test]
fn tokens_can_expire_all_at_once() {
    let subject = subject();
    subject.ours().fault(Fault::ExpiredTokens);
    assert_eq!(config(&subject).send().error().1, "Unauthorized");
    assert_eq!(upload(&subject, LARGE).1.send().error().0, 401);
    assert_well(&subject);
}

#[test]
fn a_proxy_lets_no_more_through_than_it_is_told() {
    let subject = subject();
    subject.ours().fault(Fault::ProxyBody(50_000));
    assert_eq!(upload(&subject, 50_000).1.send().status, 200);
    let page = |answer: Answer| {
        assert_eq!(answer.header("content-type"), Some("text/html"));
        (answer.status, answer.text())
    };
    for answer in [upload(&subject, 50_001).1.send(), upload(&subject, LARGE).1.send_chunked(4096)]
    {
        let (status, text) = page(answer);
        assert_eq!(status, 413);
        assert!(text.contains("413 Request Entity Too Large"), "{text}");
    }
    subject.ours().fault(Fault::ProxyHeader(8192));
    let nar = contents(10);
    let mut info = info(&subject.cache, &nar);
    let token = subject.token(&["w"]);
    assert_eq!(subject.upload(&info, &nar).bearer(&token).send().status, 200);
    info["references"] = (0..200).map(|_| json!(format!("{}-part", unique()))).collect();
    let (status, text) = page(subject.upload(&info, &nar).bearer(&token).send());
    assert_eq!(status, 400);
    assert!(text.contains("Request Header Or Cookie Too Large"), "{text}");
    assert_eq!(subject.upload_with_preamble(&info, &nar).bearer(&token).send().status, 200);
    assert_well(&subject);
}

#[test]
fn a_redirect_leads_elsewhere_and_keeps_the_method() {
    let subject = subject();
    subject.ours().fault(Fault::Redirect("http://elsewhere.example".into()));
    let answer = upload(&subject, 10).1.send();
    assert_eq!(answer.status, 307);
    let there = "http://elsewhere.example/_api/v1/upload-path";
    assert_eq!(answer.header("location"), Some(there));
    assert_well(&subject);
}

#[test]
fn the_api_can_be_said_to_be_elsewhere() {
    let subject = subject();
    subject.ours().fault(Fault::Elsewhere("http://elsewhere.example".into()));
    let config = config(&subject).send().json();
    assert_eq!(config["api_endpoint"], "http://elsewhere.example/");
    assert_eq!(config["substituter_endpoint"], "http://elsewhere.example/fort");
    assert_well(&subject);
}

#[test]
fn another_web_server_answers_with_pages() {
    let subject = subject();
    for (fault, status) in [(Fault::WebServer, 200), (Fault::NotFoundPages, 404)] {
        subject.ours().fault(fault);
        for answer in [config(&subject).send(), upload(&subject, 10).1.send()] {
            assert_eq!((answer.status, answer.header("content-type")), (status, Some("text/html")));
        }
    }
    assert_well(&subject);
}

#[test]
fn one_that_listens_no_more_comes_back_at_the_same_place() {
    let subject = subject();
    let stored = upload(&subject, 10).1;
    assert_eq!(stored.send().status, 200);
    subject.ours().fault(Fault::Refused);
    assert!(!subject.ours().is_listening());
    assert_well(&subject);
    assert_eq!(subject.ours().stored().len(), 2);
}

#[test]
fn one_that_is_killed_has_answered_what_it_confirmed_and_nothing_else() {
    let subject = subject();
    subject.ours().dies_after(2);
    // One that never gets to its end.
    let (info, ask) = upload(&subject, LARGE);
    let under_way = std::thread::spawn(move || ask.send_half());
    wait_for("it to be under way", || subject.ours().upload_log().len() == 1);
    assert_eq!(upload(&subject, 10).1.send().status, 200);
    assert_eq!(upload(&subject, 10).1.send().status, 200);
    assert!(under_way.join().unwrap().is_none());
    wait_for("it to be dead", || !subject.ours().is_listening());
    subject.ours().fault(Fault::None);
    assert_eq!(subject.ours().stored().len(), 2);
    let log = subject.ours().upload_log();
    assert_eq!((log[0].outcome, &log[0].store_path), (Outcome::Open, &path_in(&info)));
    assert_well(&subject);
}

#[test]
fn contents_can_be_lost_while_the_path_stays_present() {
    let subject = subject();
    let (info, ask) = upload(&subject, LARGE);
    assert_eq!(ask.send().status, 200);
    subject.ours().lose(&path_in(&info));
    let hash = info["store_path_hash"].as_str().unwrap();
    let get = |file: &str| {
        let path = format!("/{}/{file}", subject.cache);
        subject.ask("GET", &path).bearer(&subject.token(&["r"])).send()
    };
    assert_eq!(get(&format!("{hash}.narinfo")).status, 200);
    let (code, error, _) = get(&format!("nar/{hash}.nar")).error();
    assert_eq!((code, error.as_str()), (503, "IncompleteNar"));
    let missing = subject.missing(&subject.cache, &[hash.into()]).bearer(&subject.token(&["w"]));
    assert_eq!(missing.send().json()["missing_paths"], json!([]));

    // Paths can be pretended, too.
    let path = format!("/nix/store/{}-pretended", unique());
    subject.ours().pretend(&[&path]);
    assert!(subject.ours().stored().contains(&path));
}

#[test]
fn it_tells_what_it_saw() {
    let subject = subject();
    let (first, ask) = upload(&subject, LARGE);
    assert_eq!(ask.send().status, 200);
    let (second, ask) = upload(&subject, 10);
    assert_eq!(ask.send().status, 200);
    assert_eq!(subject.ours().sent_again(), Vec::<String>::new());
    let again = subject.upload(&first, &[]).bearer(&subject.token(&["w"])).send();
    assert_eq!(again.status, 400);
    assert_eq!(config(&subject).send().status, 200);
    assert_eq!(subject.ask("GET", "/fort/nix-cache-info").send().status, 401);

    let mut both = [path_in(&first), path_in(&second)];
    let log = subject.ours().upload_log();
    assert_eq!(
        log.iter().map(|upload| &upload.store_path).collect::<Vec<_>>(),
        [&both[0], &both[1], &both[0]]
    );
    assert_eq!(
        log.iter().map(|upload| upload.outcome).collect::<Vec<_>>(),
        [Outcome::Uploaded, Outcome::Uploaded, Outcome::Refused(400)]
    );
    assert_eq!((log[0].received, log[0].nar_size, log[0].preamble), (100_000, 100_000, false));
    assert!(log[0].ended.unwrap() <= log[1].began);
    assert_eq!(subject.ours().sent_again(), [path_in(&first)]);
    both.sort();
    assert_eq!(subject.ours().stored(), both);
    let counts = subject.ours().counts();
    assert_eq!((counts.requests, counts.uploads, counts.cache_config), (5, 3, 1));
    assert_eq!((counts.cache_info, counts.authorized, counts.connections), (1, 4, 5));
    assert_eq!(counts.most_uploads_at_once, 1);
    assert!(counts.received > 100_000 && counts.sent > 500);
    assert_eq!(subject.ours().authorizations().len(), 2);
}

#[test]
fn it_tells_how_many_uploads_came_at_once() {
    let subject = subject();
    subject.ours().fault_next(3, Kind::Upload, Fault::StallUpload);
    let asking: Vec<_> = (0..3)
        .map(|_| upload(&subject, LARGE).1)
        .map(|ask| std::thread::spawn(move || ask.try_send()))
        .collect();
    wait_for("all of them", || subject.ours().counts().held == 3);
    assert_eq!(subject.ours().counts().most_uploads_at_once, 3);
    subject.ours().disconnect();
    asking.into_iter().for_each(|asking| assert!(asking.join().unwrap().is_none()));
    assert_well(&subject);
    assert_eq!(subject.ours().counts().most_uploads_at_once, 3);
}

fn path_in(info: &Value) -> String {
    info["store_path"].as_str().unwrap().to_owned()
}
