//! Debian's Prometheus, scraping one agent.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::forge::wait_for;
use super::pages::{get, needed};
use super::sshd::free_port;

pub(crate) struct Prometheus {
    dir: tempfile::TempDir,
    address: SocketAddr,
    process: Child,
}

impl Prometheus {
    /// Scrapes this agent every second, and evaluates these rules; waits for its
    /// first scrape.
    pub(crate) fn start(agent: SocketAddr, rules: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_port();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: fort-agent\n    static_configs:\n      \
             - targets: [\"{agent}\"]\n",
            rules.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(needed("prometheus", "prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self { dir, address, process };
        wait_for("a scrape", || {
            let up = prometheus.ask("query", &[("query", "up{job=\"fort-agent\"} == 1")]);
            up.is_ok_and(|data| data["result"].as_array().is_some_and(|all| !all.is_empty()))
        });
        prometheus
    }

    /// Asks the API of Prometheus. Returns the answer's data, or its error.
    pub(crate) fn ask(&self, what: &str, arguments: &[(&str, &str)]) -> Result<Value, String> {
        let mut path = format!("/api/v1/{what}?");
        for (name, value) in arguments {
            let _ = write!(path, "{name}=");
            value.bytes().for_each(|byte| {
                let _ = write!(path, "%{byte:02x}");
            });
            path.push('&');
        }
        let (_, body) = get(self.address, &path).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&body).map_err(|_| body.clone())?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(body) }
    }

    /// Output of the Prometheus server so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("prometheus:\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
