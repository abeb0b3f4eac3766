//! Debian's Chromium, without a screen, told what to do over a pipe.
//!
//! The protocol is that of its developer tools: JSON, each message ended by a
//! zero byte, read from descriptor 3 and written to 4.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::pages::needed;

/// Longer than anything takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(90);

pub(crate) struct Browser {
    dir: tempfile::TempDir,
    process: Child,
    told: ChildStdin,
    says: Receiver<Value>,
    /// Events that came and were not asked for yet.
    events: VecDeque<Value>,
    session: Option<String>,
    calls: u64,
}

/// Screen on which a page is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) phone: bool,
    pub(crate) dark: bool,
}

impl Browser {
    /// With one empty page, in which no script runs.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        // Only a shell can hand on descriptors 3 and 4 without `unsafe`.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .arg(needed("chromium", "browser"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let told = process.stdin.take().unwrap();
        let mut from = BufReader::new(process.stdout.take().unwrap());
        let (sender, says) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let (events, session, calls) = (VecDeque::new(), None, 0);
        let mut browser = Self { dir, process, told, says, events, session, calls };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", &json!({}));
        browser.call("Network.enable", &json!({}));
        browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
        browser
    }

    pub(crate) fn show_on(&mut self, screen: Screen) {
        let Screen { width, height, phone, dark } = screen;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Opens a page, and waits until it is there.
    pub(crate) fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{opened}");
        self.wait("Page.loadEventFired");
    }

    /// Runs a script of ours in the page and returns its result; the page's own scripts
    /// do not run.
    pub(crate) fn find(&mut self, script: &str) -> Value {
        let asked = json!({"expression": script, "returnByValue": true});
        let found = self.call("Runtime.evaluate", &asked);
        assert!(found["exceptionDetails"].is_null(), "{found:#}");
        found["result"]["value"].clone()
    }

    /// The whole page, as a picture.
    pub(crate) fn shoot(&mut self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"],
            "scale": 1});
        let asked = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.call("Page.captureScreenshot", &asked);
        let picture = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// URLs that were requested since the page was opened.
    pub(crate) fn requested(&mut self) -> Vec<String> {
        let requests = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        requests.map(|e| e["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// The next time that this happens.
    pub(crate) fn wait(&mut self, event: &str) {
        let began = Instant::now();
        loop {
            if let Some(at) = self.events.iter().position(|it| it["method"] == event) {
                self.events.remove(at);
                return;
            }
            let message = self.next(began, event);
            self.events.push_back(message);
        }
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.told.write_all(format!("{call}\0").as_bytes()).unwrap();
        let began = Instant::now();
        loop {
            let mut message = self.next(began, method);
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }

    fn next(&self, began: Instant, what: &str) -> Value {
        let left = LONG.saturating_sub(began.elapsed());
        self.says.recv_timeout(left).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("chromium and {what}: {error}\n{log}")
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
