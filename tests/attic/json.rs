//! Answers of the API, and its errors for requests that are wrong in form.

use super::ask::{Subject, contents, info, unique};

#[test]
fn a_caches_configuration_says_all_of_it() {
    let subject = Subject::new();
    let answer = subject.config(&subject.cache).bearer(&subject.token(&["r"])).send();
    let config = answer.json();
    let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
    let known = "api_endpoint is_public priority public_key retention_period store_dir \
                 substituter_endpoint upstream_cache_key_names";
    let mut sorted: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, known.split(' ').collect::<Vec<_>>());
    let api = config["api_endpoint"].as_str().unwrap();
    assert!(api.starts_with("http://127.0.0.1:") && api.ends_with('/'), "{api}");
    assert_eq!(config["substituter_endpoint"], format!("{api}{}", subject.cache));
    let (name, key) = config["public_key"].as_str().unwrap().split_once(':').unwrap();
    assert_eq!((name, key.len()), (subject.cache.as_str(), 44));
    assert_eq!(config["is_public"], false);
    assert_eq!(config["store_dir"], "/nix/store");
    assert_eq!(config["priority"], 41);
    assert_eq!(config["retention_period"], "Global");
}

#[test]
fn what_is_missing_is_told_once_and_in_no_order() {
    let subject = Subject::new();
    let token = subject.token(&["w"]);
    let missing = |hashes: &[String]| {
        let answer = subject.missing(&subject.cache, hashes).bearer(&token).send();
        let paths = answer.json()["missing_paths"].clone();
        serde_json::from_value::<Vec<String>>(paths).unwrap()
    };
    let mut hashes: Vec<String> = (0..100).map(|_| unique()).collect();
    hashes.sort_unstable();
    hashes.push(hashes[0].clone());
    let mut told = missing(&hashes);
    assert!(!told.is_sorted());
    told.sort_unstable();
    assert_eq!(told, hashes[..100]);

    let nar = contents(10);
    let info = info(&subject.cache, &nar);
    assert_eq!(subject.upload(&info, &nar).bearer(&token).send().status, 200);
    let stored = info["store_path_hash"].as_str().unwrap().to_owned();
    assert_eq!(missing(&[stored.clone(), hashes[1].clone()]), [hashes[1].clone()]);
    assert_eq!(missing(&[stored]), Vec::<String>::new());
    assert_eq!(missing(&[]), Vec::<String>::new());
}

#[test]
fn too_many_hashes_are_too_much_for_sqlite() {
    let subject = Subject::new();
    let token = subject.token(&["w"]);
    let hashes: Vec<String> = (0..32_766).map(|_| unique()).collect();
    let most = subject.missing(&subject.cache, &hashes[1..]).bearer(&token).send();
    assert_eq!(most.json()["missing_paths"].as_array().unwrap().len(), 32_765);
    let (code, error, message) =
        subject.missing(&subject.cache, &hashes).bearer(&token).send().error();
    assert_eq!((code, error.as_str()), (500, "InternalServerError"));
    assert_eq!(message, "The server encountered an internal error or misconfiguration.");
}

#[test]
fn the_framework_refuses_in_plain_text_before_it_asks_who_it_is() {
    let subject = Subject::new();
    let path = "/_api/v1/get-missing-paths";
    let ask = || subject.ask("POST", path);
    let of = |body: &str| ask().json(body).send().plain_error();

    let (status, text) = ask().body(b"{}").send().plain_error();
    assert_eq!(
        (status, text.as_str()),
        (415, "Expected request with `Content-Type: application/json`")
    );
    let (status, text) = of("{\"cache\":");
    assert_eq!(status, 400);
    assert!(text.starts_with("Failed to parse the request body as JSON: "), "{text}");
    let what = "Failed to deserialize the JSON body into the target type: ";
    let (good, cache) = (unique(), &subject.cache);
    for (body, where_) in [
        ("{}".to_owned(), "missing field `cache`"),
        (
            format!(r#"{{"cache":"{cache}","store_path_hashes":["{good}","eeee"]}}"#),
            "store_path_hashes[1]: Invalid store path hash \"eeee\"",
        ),
        (
            format!(r#"{{"cache":"{cache}","store_path_hashes":["{}"]}}"#, "e".repeat(32)),
            "store_path_hashes[0]: Invalid store path hash \"ee",
        ),
        (format!(r#"{{"cache":"{cache}","store_path_hashes":[1]}}"#), "store_path_hashes[0]: "),
        (
            r#"{"cache":"no good name","store_path_hashes":[]}"#.to_owned(),
            "cache: Invalid cache name \"no good name\"",
        ),
    ] {
        let (status, text) = of(&body);
        assert_eq!(status, 422, "{body}");
        let why = text.strip_prefix(what).unwrap_or_else(|| panic!("{text}"));
        assert!(why.starts_with(where_), "{text}");
    }
    let long = |length: usize| ask().json(&" ".repeat(length)).send().plain_error();
    let (status, text) = long(2 * 1024 * 1024 + 1);
    assert_eq!(status, 413);
    assert_eq!(text, "Failed to buffer the request body: length limit exceeded");
    assert_eq!(long(2 * 1024 * 1024).0, 400);
}

#[test]
fn a_method_that_is_not_meant_is_refused_without_a_word() {
    let subject = Subject::new();
    for (method, path, allowed) in [
        ("GET", "/_api/v1/upload-path", "PUT"),
        ("POST", "/_api/v1/upload-path", "PUT"),
        ("GET", "/_api/v1/get-missing-paths", "POST"),
        ("PUT", "/fort/nix-cache-info", "GET,HEAD"),
    ] {
        let answer = subject.ask(method, path).send();
        assert_eq!((answer.status, answer.text()), (405, String::new()), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allowed.to_lowercase().as_str()));
    }
}

#[test]
fn people_who_look_at_it_see_a_page() {
    let subject = Subject::new();
    let page = subject.ask("GET", "/").send();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<title>Attic Binary Cache</title>"), "{}", page.text());
}

#[test]
fn a_caches_configuration_is_beside_the_cache_as_well() {
    let subject = Subject::new();
    let ask = |path: &str| {
        let path = path.replace("CACHE", &subject.cache);
        subject.ask("GET", &path).bearer(&subject.token(&["r"])).send().json()
    };
    assert_eq!(ask("/CACHE/attic-cache-info"), ask("/_api/v1/cache-config/CACHE"));
}

#[test]
fn an_address_that_is_not_meant_is_not_found() {
    let subject = Subject::new();
    for path in ["/a/b/c/d", "/_api/v2/upload-path", "/fort/something", "/fort/x.ls"] {
        let (code, error, message) = subject.ask("GET", path).send().error();
        assert_eq!((code, error.as_str()), (404, "NotFound"), "{path}");
        assert_eq!(message, "The URL you requested was not found.");
    }
    let (status, text) = subject.config("no.good.name").send().plain_error();
    assert_eq!(status, 400);
    assert_eq!(text, "Invalid URL: Invalid cache name \"no.good.name\"");
}
