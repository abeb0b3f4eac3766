//! The page of a really running agent in a real browser, on a phone and on a
//! desk, by day and by night, without JavaScript. What it looks like is kept in
//! `target/screenshots`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fort_agent::announce::Notes;
use fort_agent::control::Shown;
use fort_agent::core::types::Wall;
use fort_agent::metrics::Metrics;
use fort_agent::web;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use crate::support::browser::{Browser, Screen};
use crate::support::forge::wait_for;
use crate::support::pages::get;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::sshd::free_port;
use crate::support::system::Host;

const PHONE: Screen = Screen { width: 390, height: 844, phone: true, dark: false };
const DESK: Screen = Screen { width: 1280, height: 900, phone: false, dark: false };

/// Script that returns the elements that stick out to the right, and the least contrast
/// of any text with its background, with the element that has it.
const LOOK: &str = r"(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > wide + 0.5)
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 40));
  const rgb = text => text.match(/[\d.]+/g).map(Number);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const light = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let least = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 80)];
  }
  const small = [...document.querySelectorAll('body *')]
    .map(e => parseFloat(getComputedStyle(e).fontSize)).reduce((a, b) => Math.min(a, b));
  return { inner: innerWidth, scroll: document.documentElement.scrollWidth, out, small,
    contrast: least[0], where: least[1], ground: light(behind(document.body)),
    text: document.body.innerText };
})()";

fn screenshot(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots").join(format!("{name}.png"))
}

/// Looks at it on each screen, and at each picture's merits.
fn looked_at(browser: &mut Browser, url: &str, name: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for (screen, on) in [(PHONE, "phone"), (DESK, "desk")] {
        for dark in [false, true] {
            browser.show_on(Screen { dark, ..screen });
            browser.open(url);
            assert_eq!(browser.requested(), [url], "it loads something");
            let found = browser.find(LOOK);
            let by = if dark { "dark" } else { "light" };
            browser.shoot(&screenshot(&format!("{name}-{on}-{by}")));
            let what = format!("{name} {on} {by}");
            fits(&found, screen.width, &what);
            assert!(found["contrast"].as_f64().unwrap() >= 4.5, "{what}: {found:#}");
            assert!(found["small"].as_f64().unwrap() >= 13.0, "{what}: {found:#}");
            let ground = found["ground"].as_f64().unwrap();
            assert!(if dark { ground < 0.1 } else { ground > 0.7 }, "{what}: {ground}");
            texts.push(found["text"].as_str().unwrap().to_owned());
        }
    }
    texts
}

fn fits(found: &Value, width: u32, what: &str) {
    assert_eq!(found["inner"], width, "{what}: {found:#}");
    assert_eq!(found["scroll"], width, "{what}: {found:#}");
    assert_eq!(found["out"].as_array().unwrap().len(), 0, "{what}: {found:#}");
}

/// The check itself: a page that sticks out is noticed, and scripts do not run.
fn notices_what_is_wrong(browser: &mut Browser) {
    browser.show_on(PHONE);
    browser.open(
        "data:text/html,<meta name=viewport content='width=device-width,minimum-scale=1'>\
         <p style='width:600px;color:silver'>wide<script>document.write('it ran')</script>",
    );
    let found = browser.find(LOOK);
    assert_eq!(found["out"].as_array().unwrap().len(), 1, "{found:#}");
    assert!(found["scroll"].as_u64().unwrap() >= 600, "{found:#}");
    assert!(found["contrast"].as_f64().unwrap() < 3.0, "{found:#}");
    assert!(!found["text"].as_str().unwrap().contains("ran"), "{found:#}");
}

#[test]
fn the_page_is_readable_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    let (pages, site) = (free_port(), Site::open());
    site.answer(200, "well");
    let mut rig = Rig::new();
    rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"1s\"\n".into();
    rig.settings.sections = format!(
        "[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n[metrics]\nlisten = \"{pages}\"\n",
        site.url()
    );
    rig.publish();
    let url = format!("http://{pages}/");
    let mut browser = Browser::start();
    notices_what_is_wrong(&mut browser);

    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    rig.wait_published();
    let texts = looked_at(&mut browser, &url, "in-sync");
    for text in texts {
        // The answer comes before the facts.
        let (answer, facts) = text.split_once("THIS HOST").unwrap();
        assert!(answer.contains("joker") && answer.contains("\nIn sync\n"), "{text}");
        assert!(answer.contains(&one.short()) && facts.contains("Running"), "{text}");
        assert!(text.contains("✓ web passes") && text.contains("✓ has all of what runs"), "{text}");
    }

    // A build that fails, and says a lot in long words.
    let mut broken = Host::new("two");
    broken.build_fails = format!("error: <b>{}</b> & \"more\"", "long-".repeat(60));
    let two = rig.push("release", &broken);
    rig.wait_verdict(two, "failed");
    // A system whose page is unwell: put back.
    site.answer(503, "unwell");
    let three = rig.push("release", &Host::new("three"));
    rig.wait_verdict(three, "rolled-back");
    rig.wait_state("backing-off");
    for text in looked_at(&mut browser, &url, "put-back") {
        assert!(text.contains("Backing off") && text.contains("fort-agent retry"), "{text}");
        assert!(text.contains("rolled back") && text.contains("✗ web fails"), "{text}");
        assert!(text.contains("answered 503") && text.contains("<b>long-long"), "{text}");
    }

    // Something under way: it is shown anew without being asked.
    site.answer(200, "well");
    let mut slow = Host::new("four");
    (slow.parts, slow.build_seconds) = (6, 600);
    rig.push("release", &slow);
    rig.wait("it is being built", |status| status["deployment"]["progress"]["to_build"] == 7);
    for text in looked_at(&mut browser, &url, "building") {
        assert!(text.contains("of 7 built") && text.contains("Realising"), "{text}");
    }
    let seen = browser.find("document.querySelector('footer').innerText");
    browser.wait("Page.loadEventFired");
    let later = browser.find("document.querySelector('footer').innerText");
    assert_ne!(seen, later, "it was not asked again");

    // The history is rewritten.
    rig.check_out(one);
    rig.push("release", &Host::new("five"));
    rig.wait_held("force-push");
    for text in looked_at(&mut browser, &url, "held") {
        assert!(text.contains("Held") && text.contains("fort-agent accept"), "{text}");
    }
    let (code, html) = get(pages, "/").unwrap();
    assert!(code == 200 && html.len() < 50_000 && html.contains("&lt;b&gt;long-"), "{html}");
}

/// A host as there are many, on a bad night.
fn a_bad_night() -> Shown {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let ago = |minutes: i64| json!(Wall::from_millis((now - minutes * 60) * 1000));
    let system = |digits: &str| {
        let name = "nixos-system-joker-25.11.20260412.9f2c1aa";
        format!("/nix/store/{digits}{}-{name}", "v".repeat(32 - digits.len()))
    };
    let commit = |digits: &str| format!("{digits}{}", "0".repeat(40 - digits.len()));
    let (good, bad) = (commit("4c81f0e"), commit("d93a7b2"));
    let entry = |n: u32, of: &str, verdict: &str, cause: Value, minutes: i64, stages: Value| {
        let took: i64 = stages.as_object().unwrap().values().filter_map(Value::as_i64).sum();
        let began = json!(Wall::from_millis((now - minutes * 60) * 1000 - took));
        json!({"id": format!("20260412T0{n}1500Z-{}-1", &of[..8]), "commit": of,
            "system": null, "operation": "switch", "verdict": verdict, "cause": cause,
            "started": began, "ended": ago(minutes), "stages": stages, "checks": []})
    };
    let unwell = "check web: https://joker.example.org/healthz answered 502";
    let mut last = entry(
        6,
        &bad,
        "rolled-back",
        json!(unwell),
        4,
        json!({"realise": 131_000,
        "activate": 9_400, "verify": 30_000, "rollback": 6_100}),
    );
    last["checks"] = json!([
        {"name": "web", "ok": false, "required": true,
            "detail": "https://joker.example.org/healthz answered 502"},
        {"name": "units", "ok": true, "required": true, "detail": "no unit has newly failed"},
        {"name": "remote", "ok": true, "required": true, "detail": "origin answers"},
    ]);
    let well = |realise: u32| {
        json!({"realise": realise, "activate": 8_800, "verify": 4_000,
        "commit": 1_900})
    };
    let failed = "builder for 'gitea-1.25.2.drv' failed with exit code 1: \
        routers/web/repo/view.go:88:2: undefined: renderMarkup";
    let history = json!([
        entry(1, &commit("0b6d1c9"), "good", Value::Null, 6_900, well(96_000)),
        entry(
            2,
            &commit("77e2f05"),
            "good",
            json!("the same system as before: nothing to activate"),
            2_600,
            json!({"realise": 4_100})
        ),
        entry(3, &commit("a1f4c3e"), "failed", json!(failed), 1_500, json!({"realise": 412_000})),
        entry(4, &good, "good", Value::Null, 1_430, well(388_000)),
        last,
    ]);
    let remote = |name: &str, head: &str| {
        json!({"name": name, "reachable": true,
        "last_success": ago(0), "head": head, "error": null})
    };
    let status = json!({"version": 1, "hostname": "joker", "state": "backing-off",
        "reason": format!("d93a7b2 could not be deployed (once so far), 4c81f0e runs: {unwell}"),
        "next": {"action": "activate", "at": ago(-6)},
        "desired": {"commit": bad, "source": bad, "branch": "release", "remote": "origin",
            "operation": "switch", "system": system("b7kq0xw"), "first_seen": ago(9)},
        "running": {"commit": good, "system": system("1mhzy4d"), "since": ago(4), "drift": false},
        "boot": {"default": system("1mhzy4d"), "booted": system("1mhzy4d"),
            "reboot_required": false, "why": null},
        "last_good": {"commit": good, "system": system("1mhzy4d")},
        "deployment": null, "held": null, "suspended": null,
        "remotes": [remote("origin", &bad), remote("mirror", &good)],
        "publish": {"backlog": 0, "last_error": null, "system": system("1mhzy4d"),
            "progress": null, "next_attempt": null},
        "quarantine": [], "last_deployment": last, "notes": [],
        "agent": {"version": env!("CARGO_PKG_VERSION"), "started": ago(9_000)}});
    Shown {
        status: serde_json::from_value(status).unwrap(),
        history: Arc::new(serde_json::from_value(history).unwrap()),
    }
}

/// `docs/page.png` is one of these pictures.
#[test]
fn the_page_of_the_manual_is_readable_too() {
    let pages = free_port();
    let (_shows, shown) = watch::channel(Some(Arc::new(a_bad_night())));
    let (metrics, turns) = (Metrics::new().into(), Arc::new(|| true));
    let (notes, names) = (Notes::new(|| ()), web::Names::default());
    let served = web::Pages { metrics, shown, turns, notes, names };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stopped = async move { drop(stopped.await) };
            web::serve(pages, served, web::WebLimits::default(), stopped).await.unwrap();
        });
    });
    wait_for("the page", || get(pages, "/").is_ok());
    let mut browser = Browser::start();
    for text in looked_at(&mut browser, &format!("http://{pages}/"), "manual") {
        assert!(text.contains("joker.example.org") && text.contains("renderMarkup"), "{text}");
    }
    drop(stop);
    server.join().unwrap();
}
