//! The page of a really running agent in a real browser, on a phone and on a
//! desk, by day and by night, without JavaScript. What it looks like is kept in
//! `target/screenshots`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::browser::{Browser, Screen};
use crate::support::pages::get;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::sshd::free_port;
use crate::support::system::Host;

const PHONE: Screen = Screen { width: 390, height: 844, phone: true, dark: false };
const DESK: Screen = Screen { width: 1280, height: 900, phone: false, dark: false };

/// What sticks out to the right, and the least contrast of any text with what is
/// behind it, with the element that has it.
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
        assert!(text.contains("✓ passes web") && text.contains("✓ has all of what runs"), "{text}");
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
        assert!(text.contains("rolled back") && text.contains("✗ fails web"), "{text}");
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
