//! The program as people see it: on a pseudo terminal (by `script`), with its
//! completions in a real bash and its pages in a real man.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const AGENT: &str = env!("CARGO_BIN_EXE_fort-agent");

fn agent(arguments: &[&str]) -> Output {
    let mut command = Command::new(AGENT);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the completions of a line in bash, the last word being under the cursor.
fn completed(script: &Path, line: &[&str]) -> Vec<String> {
    let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let ask = format!(
        "source '{}' || exit 1; COMP_WORDS=({words}); COMP_CWORD={}; \
         set -- $(complete -p fort-agent); while [ \"$1\" != -F ]; do shift; done; \
         \"$2\" fort-agent '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        line.len() - 1,
        line.last().unwrap(),
        line[line.len() - 2],
    );
    let bash = Command::new("bash").args(["--norc", "--noprofile", "-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stderr), "");
    said(&bash).lines().map(str::to_owned).collect()
}

#[test]
fn a_real_bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("fort-agent.bash");
    std::fs::write(&script, said(&agent(&["completions", "bash"]))).unwrap();
    let commands = completed(&script, &["fort-agent", "re"]);
    assert_eq!(commands, ["resume", "retry"]);
    let commands = completed(&script, &["fort-agent", ""]);
    for command in ["status", "explain", "diff", "suspend", "completions", "man"] {
        assert!(commands.iter().any(|it| it == command), "{command}: {commands:?}");
    }
    assert!(!commands.iter().any(|it| it == "job"), "{commands:?}");
    let options = completed(&script, &["fort-agent", "suspend", "--"]);
    for option in ["--for", "--reason", "--json", "--config"] {
        assert!(options.iter().any(|it| it == option), "{option}: {options:?}");
    }
    let shells = completed(&script, &["fort-agent", "completions", "f"]);
    assert_eq!(shells, ["fish"]);
}

#[test]
fn every_page_is_read_by_a_real_man_without_a_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let written = said(&agent(&["man", "--out", dir.path().to_str().unwrap()]));
    assert!(written.lines().count() > 15, "{written}");
    for page in written.lines() {
        let mut man = Command::new("man");
        man.args(["--local-file", "--warnings=all", "--encoding=utf8", page]);
        man.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        man.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        let shown = man.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stderr), "", "{page}");
        let text = said(&shown);
        for heading in ["NAME", "SYNOPSIS", "OPTIONS"] {
            assert!(text.contains(heading), "{page}: {text}");
        }
    }
    let whole = std::fs::read_to_string(dir.path().join("fort-agent.1")).unwrap();
    assert_eq!(said(&agent(&["man"])), whole);
}

#[test]
fn nobody_is_told_of_a_full_pipe() {
    let mut child = Command::new(AGENT)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
}

/// A program on a pseudo terminal of 60 columns and 20 rows; what it wrote, and
/// its exit code.
pub(crate) struct Terminal(Option<std::process::Child>);

impl Terminal {
    pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let quoted: Vec<_> = arguments.iter().map(|it| format!("'{it}'")).collect();
        let line = format!("stty cols 60 rows 20; exec '{AGENT}' {}", quoted.join(" "));
        let child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("TERM", "xterm"), ("TZ", "UTC"), ("SHELL", "/bin/sh")])
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Some(child))
    }

    /// As a person types it.
    pub(crate) fn press(&mut self, keys: &str) {
        let stdin = self.0.as_mut().unwrap().stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    /// Returns the terminal's output from now on.
    pub(crate) fn screen(&mut self) -> std::process::ChildStdout {
        self.0.as_mut().unwrap().stdout.take().unwrap()
    }

    pub(crate) fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

/// Whoever fails leaves nothing behind: what ran on it is hung up.
impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
