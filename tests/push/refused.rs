//! A push that the cache does not want, and what people are told.

use super::*;
use crate::support::attic::{Claims, Fault};

/// Nothing is sent, one cause is told, and no upload is tried.
fn refused(bench: &Bench, settings: &Settings) -> String {
    let paths = bench.chain(2, 100);
    let outcome = bench.push_with(settings, &paths[1..]);
    assert_eq!(outcome.sent, 0);
    assert!(bench.attic.stored().is_empty());
    let told = cause(&outcome).to_owned();
    let token = fs::read_to_string(bench.token_file()).unwrap_or_default();
    assert!(token.trim().is_empty() || !told.contains(token.trim()), "{told}");
    told.replace(bench.store.dir().to_str().unwrap(), "DIR")
}

fn with_token(token: impl Fn(&Attic) -> String) -> String {
    let bench = Bench::new();
    bench.token(&token(&bench.attic));
    refused(&bench, &bench.settings())
}

/// The time in it, which is now.
fn without_time(told: &str) -> String {
    let words = told.split(' ').map(|word| if word.starts_with("20") { "TIME" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_fault_of_a_token_is_told_apart() {
    let refused_by = "the cache does not accept the token (401)";
    assert_eq!(
        without_time(&with_token(
            |attic| attic.sign(&Claims::new(CACHE, &["r", "w"]).expires_in(-1))
        )),
        format!("{refused_by}: it expired at TIME put a valid one in DIR/token"),
    );
    let told = with_token(|attic| attic.sign(&Claims::new(CACHE, &["r", "w"]).begins_in(600)));
    assert!(told.contains("it is not valid before 20"), "{told}");
    assert!(told.contains("is this host's clock right?"), "{told}");
    let told = with_token(|attic| attic.sign(&Claims::new("others-*", &["r", "w"])));
    assert!(told.contains("it is for other caches than `fort`"), "{told}");
    let told = with_token(|_| "no.token.at-all".into());
    assert!(told.contains("it is not a token of Attic's"), "{told}");
    let told = with_token(|_| Attic::start().token_rw());
    assert!(told.contains("it is another server's"), "{told}");
}

/// There the server says 403 of it: whoever it is may read.
#[test]
fn a_bad_token_for_a_public_cache_is_told_as_one() {
    let told = with_token(|attic| {
        attic.set_public(true);
        attic.sign(&Claims::new(CACHE, &["r", "w"]).expires_in(-1))
    });
    let refused = "the cache does not accept the token (403): it expired at ";
    assert!(told.starts_with(refused), "{told}");
}

#[test]
fn a_token_needs_both_permissions() {
    for bits in [["r"], ["w"]] {
        let told = with_token(|attic| attic.token(&bits));
        assert_eq!(
            told,
            "the token in DIR/token may not do this (403): it needs r and w on `fort`"
        );
    }
}

#[test]
fn a_token_that_is_not_there_yet_is_waited_for() {
    let bench = Bench::new();
    fs::remove_file(bench.token_file()).unwrap();
    let waiting = "waiting for a token: DIR/token is absent or empty";
    assert_eq!(refused(&bench, &bench.settings()), waiting);
    bench.token("");
    let outcome = bench.push(&bench.chain(1, 10));
    assert!(cause(&outcome).starts_with("waiting for a token"));
    // Nobody was asked without one.
    assert_eq!(bench.attic.counts().requests, 0);
}

#[test]
fn a_token_made_a_moment_ago_is_good_enough() {
    let bench = Bench::new();
    bench.token(&bench.attic.sign(&Claims::new(CACHE, &["r", "w"]).begins_in(2)));
    let outcome = bench.push(&bench.chain(1, 10));
    assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)"));
}

#[test]
fn a_token_that_is_replaced_meanwhile_is_read_anew() {
    let bench = Bench::new();
    let paths = bench.chain(8, 10);
    let (good, bad) =
        (bench.attic.token_rw(), bench.attic.sign(&Claims::new(CACHE, &["r", "w"]).expires_in(-5)));
    // Replaced as soon as the first path is confirmed, and again a bit later.
    let replace = |progress: &PublishProgress| {
        bench.token(if progress.sent.is_multiple_of(2) { &good } else { &bad });
    };
    let mut first =
        bench.push_until(&bench.settings(), &paths[7..], replace, std::future::pending());
    bench.token(&good);
    if first.left > 0 {
        first = bench.push(&paths[7..]);
    }
    assert_eq!((first.left, cause(&first)), (0, "(none)"));
    assert!(bench.has(&paths));
    assert_eq!(bench.attic.sent_again(), [""; 0]);
}

#[test]
fn a_cache_that_is_not_there_is_named() {
    let bench = Bench::new();
    bench.token(&bench.attic.sign(&Claims::new("*", &["r", "w"])));
    let settings = Settings { name: "fort2".into(), ..bench.settings() };
    let told = refused(&bench, &settings);
    assert_eq!(told, "the server has no cache `fort2`: check cache.name, or create it");
}

#[test]
fn what_is_no_attic_server_is_told() {
    for fault in [Fault::WebServer, Fault::NotFoundPages] {
        let bench = Bench::new();
        bench.attic.fault(fault.clone());
        let told = refused(&bench, &bench.settings());
        assert!(told.starts_with("this is not an Attic server ("), "{fault:?}: {told}");
        assert!(told.ends_with("check cache.endpoint"), "{told}");
    }
}

#[test]
fn nobody_else_is_given_the_token() {
    let other = Attic::start();
    for fault in [Fault::Redirect(other.endpoint()), Fault::Elsewhere(other.endpoint())] {
        let bench = Bench::new();
        bench.attic.fault(fault.clone());
        let outcome = bench.push(&bench.chain(1, 10));
        match fault {
            Fault::Redirect(_) => {
                let to = other.endpoint();
                let expected = format!(
                    "the cache redirects to {to}: if that is right, make it cache.endpoint"
                );
                assert_eq!(cause(&outcome), expected);
            }
            _ => assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)")),
        }
    }
    assert_eq!(other.counts().requests, 0);
}

#[test]
fn an_unknown_authority_is_told() {
    let bench = Bench::with(Attic::start_tls());
    let told = refused(&bench, &bench.settings());
    assert!(told.starts_with("TLS: the certificate is from an unknown issuer"), "{told}");
    assert!(told.contains("this host has to trust"), "{told}");
}

#[test]
fn a_proxys_limit_is_told_and_the_rest_arrives() {
    let bench = Bench::new();
    let mut plants: Vec<Plant> =
        (0..4).map(|at| Plant::new(&format!("small{at}"), 1000, &[])).collect();
    plants.push(Plant::new("large", 3_000_000, &[0]));
    plants.push(Plant::new("top", 1000, &[1, 2, 3, 4]));
    let paths = plant(&bench.store, &plants);
    bench.attic.fault(Fault::ProxyBody(1_000_000));
    let outcome = bench.push(&paths[5..]);
    assert_eq!((outcome.sent, outcome.left), (4, 2));
    assert!(cause(&outcome).contains("-large: it is larger than a proxy"), "{outcome:?}");
    assert!(cause(&outcome).contains("client_max_body_size"), "{outcome:?}");
    assert!(cause(&outcome).ends_with("(and 1 other path)"), "{outcome:?}");
    assert!(bench.is_closed());
    bench.attic.fault(Fault::None);
    assert_eq!(bench.push(&paths[5..]).sent, 2);
    assert!(bench.has(&paths));
}
