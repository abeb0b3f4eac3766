//! Stage of the story: a host and a forge, commands that are run as they are shown, and
//! a look for oneself after each.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use crate::support::attic::Attic;
use crate::support::forge::TOKEN;
use crate::support::nix::search_path;
use crate::support::rig::settings::TRIES;
use crate::support::rig::{HOST, Rig, agent};
use crate::support::system::Host;

/// Longer than anything here takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(40);

/// Where the story plays.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    pub(crate) dir: PathBuf,
    pub(crate) metrics: String,
    /// The cluster's cache, and a host that gets what the first one built: they
    /// come late in the story.
    pub(crate) cache: Option<Attic>,
    pub(crate) second: Option<Rig>,
    host: Host,
    colour: bool,
    step: u32,
}

/// Result of a part of the story; the error is what went otherwise than claimed.
pub(crate) type Told = Result<(), String>;

impl Stage {
    /// A host that shows its version on a web page, a forge, and a work tree
    /// whose pushes go there over HTTPS. Nothing is committed yet.
    pub(crate) fn set(dir: &Path) -> Self {
        let mut rig = Rig::below(dir);
        let metrics = free_address();
        configure(&mut rig, "1s");
        rig.settings.sections.push_str(&format!("[metrics]\nlisten = \"{metrics}\"\n"));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = std::io::stdout().is_terminal() && !no_colour;
        let host = Host::new("1.0");
        let dir = dir.to_owned();
        let stage = Self { rig, dir, metrics, cache: None, second: None, host, colour, step: 0 };
        stage.connect();
        stage
    }

    /// So that `git push` just works, for a person with settings of his own too.
    fn connect(&self) {
        let forge = &self.rig.forge;
        let (ca, credentials) = (self.dir.join("ca"), self.dir.join("credentials"));
        std::fs::create_dir(&ca).unwrap();
        std::fs::copy(forge.ca_file(), ca.join("ca.pem")).unwrap();
        let url = &self.rig.repo.url;
        let with_token = forge.url().replacen("://", &format!("://fort-agent:{TOKEN}@"), 1);
        write_private(&credentials, &format!("{with_token}\n"));
        let store = format!("store --file={}", credentials.display());
        let git = |arguments: &[&str]| self.rig.tree.git(arguments);
        git(&["symbolic-ref", "HEAD", "refs/heads/release"]);
        git(&["remote", "add", "origin", url]);
        for (key, value) in [
            ("user.name", "Ann"),
            ("user.email", "ann@example.org"),
            ("commit.gpgSign", "false"),
            ("push.default", "upstream"),
            ("http.proxy", ""),
            ("http.sslCAInfo", ca.join("ca.pem").to_str().unwrap()),
            // Where GIT_SSL_CAINFO is set, it hides the former but not this.
            ("http.sslCAPath", ca.to_str().unwrap()),
            // Nobody else's helpers.
            ("credential.helper", ""),
        ] {
            git(&["config", key, value]);
        }
        git(&["config", "--add", "credential.helper", &store]);
    }

    /// Opens a step: what is about to happen.
    pub(crate) fn step(&mut self, title: &str, text: &str) {
        self.step += 1;
        println!("\n{}", self.paint("1;36", &format!("{}. {title}", self.step)));
        self.say(text);
    }

    /// Prints a few sentences, wrapped.
    pub(crate) fn say(&self, text: &str) {
        println!();
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > 78 {
                println!("{line}");
                line.clear();
            }
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
        println!("{line}\n");
    }

    /// Changes the host's description, and shows how.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Host)) {
        let before = serde_json::to_value(&self.host).unwrap();
        change(&mut self.host);
        let after = serde_json::to_value(&self.host).unwrap();
        self.rig.tree.host(HOST, &self.host);
        println!("{}", self.paint("2", &format!("# in hosts/{HOST}.json")));
        for (key, value) in after.as_object().unwrap() {
            if before[key] != *value {
                println!("{}", self.paint("2", &format!("#   {key}: {} -> {value}", before[key])));
            }
        }
    }

    /// The work tree was changed by git.
    pub(crate) fn reread(&mut self, change: impl FnOnce(&mut Host)) {
        change(&mut self.host);
    }

    /// Shows a command and runs it: git in the work tree, the agent's, or Nix
    /// on the host's store.
    pub(crate) fn run(&self, line: &str) -> Told {
        self.run_on(&self.rig, "$", line)
    }

    /// The same on the second host.
    pub(crate) fn run_on_second(&self, line: &str) -> Told {
        self.run_on(self.second()?, "second$", line)
    }

    fn run_on(&self, rig: &Rig, prompt: &str, line: &str) -> Told {
        println!("{}", self.paint("1", &format!("{prompt} {line}")));
        let words = words(line);
        let mut command = match words[0].as_str() {
            "git" => self.git(),
            "fort-agent" => agent_of(rig),
            "nix" => nix_of(rig),
            other => return Err(format!("nobody knows {other}")),
        };
        let status = command.args(&words[1..]).status().map_err(|e| format!("{line}: {e}"))?;
        let success = status.success();
        success.then_some(()).ok_or_else(|| format!("`{line}` ended with {status}"))
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(self.rig.tree.dir())
            .env_clear()
            .env("PATH", search_path())
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    pub(crate) fn second(&self) -> Result<&Rig, String> {
        self.second.as_ref().ok_or_else(|| "there is no second host yet".into())
    }

    pub(crate) fn cache(&self) -> Result<&Attic, String> {
        self.cache.as_ref().ok_or_else(|| "there is no cache yet".into())
    }

    pub(crate) fn head(&self) -> Commit {
        self.rig.tree.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// Waits until the status is so.
    pub(crate) fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        until(&self.rig, what, wanted)
    }

    /// The same on the second host.
    pub(crate) fn until_on_second(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        until(self.second()?, what, wanted)
    }

    /// Waits until a commit runs and was verified.
    pub(crate) fn until_in_sync(&self, commit: Commit) -> Result<Value, String> {
        let what = format!("in sync with {}", commit.short());
        self.until(&what, |status| is_in_sync(status, commit))
    }

    /// Looks for oneself, past the agent, and says what was seen.
    pub(crate) fn see(&self, what: &str, seen: bool) -> Told {
        if !seen {
            return Err(format!("this is not so: {what}"));
        }
        println!("{}", self.paint("32", &format!("seen: {what}")));
        Ok(())
    }

    /// The same for what should equal something.
    pub(crate) fn see_equal(&self, what: &str, seen: &str, wanted: &str) -> Told {
        if seen != wanted {
            return Err(format!("{what} {wanted}: that is not so, it is {seen}"));
        }
        self.see(&format!("{what} {wanted}"), true)
    }

    /// Actions of the switches that the host has seen, without the first `count`.
    pub(crate) fn switches_since(&self, count: usize) -> Vec<String> {
        self.rig.switches().into_iter().skip(count).map(|(action, _)| action).collect()
    }

    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Configures the host: with a person's patience, and its web page as the health check.
pub(crate) fn configure(rig: &mut Rig, interval: &str) {
    let page = serve_page(rig.root().join("run/fixture/version"));
    rig.settings.poll = format!("interval = \"{interval}\"\njitter = \"0s\"\n");
    rig.settings.branch = TRIES.into();
    rig.settings.retry = "first = \"60s\"\nmax = \"32m\"\n".into();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"3s\"\n".into();
    rig.settings.sections = format!("[[health.check]]\nname = \"web\"\nhttp = \"{page}\"\n");
}

fn agent_of(rig: &Rig) -> Command {
    let mut command = Command::new(agent());
    command.env("FORT_AGENT_CONFIG", rig.config());
    command
}

fn nix_of(rig: &Rig) -> Command {
    let nix = rig.store.nix();
    let mut command = Command::new("nix");
    command.env_clear().envs(nix.environment());
    command.args(["--extra-experimental-features", "nix-command flakes"]);
    for (name, value) in nix.options() {
        command.args(["--option", name, value]);
    }
    command
}

fn until(rig: &Rig, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < LONG {
        last = rig.status();
        if let Some(status) = last.take_if(|status| wanted(status)) {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    let found = last.map_or("the agent does not answer".into(), |last| {
        format!("it is {}: {}", last["state"], last["reason"])
    });
    Err(format!("within {} s it did not come to this: {what}; {found}", LONG.as_secs()))
}

pub(crate) fn is_in_sync(status: &Value, commit: Commit) -> bool {
    status["state"] == "up-to-date"
        && status["running"]["commit"] == commit.to_string()
        && status["deployment"].is_null()
}

/// The host's web service: the version that runs, and an error when that is a
/// broken one. The address of its page.
fn serve_page(version: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let version = std::fs::read_to_string(&version).unwrap_or_default();
            let status = match version.contains("broken") {
                true => "503 Service Unavailable",
                false => "200 OK",
            };
            let length = version.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
            let _ = write!(&stream, "{head}Connection: close\r\n\r\n{version}");
        }
    });
    format!("http://{address}/")
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Splits a line as a shell would, if it has no quotes but double ones.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// Returns the first line of a program's `--version`; empty if it cannot be run.
pub(crate) fn version(program: &str) -> String {
    let mut command = Command::new(program);
    let output = command.arg("--version").stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
