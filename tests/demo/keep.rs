//! `KEEP=1`: everything goes on without a terminal, and says how to play.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Signal, getppid, kill_process};

use crate::stage::{Stage, Told};
use crate::support::rig::{HOST, agent};

/// Says how to play, lets go of the terminal, and serves until it is killed.
pub(crate) fn keep(stage: &Stage) -> Told {
    let dir = stage.dir.display();
    let (config, cache) = (stage.rig.config(), stage.cache()?.substituter());
    let demo = std::env::current_exe().map_err(|error| error.to_string())?;
    for (name, config) in [("fort-agent", &config), ("fort-agent-2", &stage.second()?.config())] {
        script(stage, name, &[&agent(), "--config".as_ref(), config, "\"$@\"".as_ref()])?;
    }
    script(stage, "stop", &[&demo, "remove".as_ref(), &stage.dir])?;
    println!(
        "\n{}\n\n\
         It goes on running, all of it below {dir}\n\n  \
         the work tree     {dir}/work\n  \
         the configuration {}\n  \
         the agent's log   {dir}/host/log.2\n  \
         the host's files  {dir}/host/root\n  \
         the second host   {dir}/second, the same there\n  \
         the cache         {cache}, its files in {dir}/cache\n  \
         metrics           http://{}/metrics, and /status\n\n\
         To play, for instance:\n\n  \
         cd {dir}/work\n  \
         sed -i 's/\"version\": .*/\"version\": \"2.0\",/' hosts/{HOST}.json\n  \
         git commit -am \"Version 2.0\" && git push\n  \
         {dir}/fort-agent status\n  \
         {dir}/fort-agent-2 status\n\n\
         The second host looks every ten seconds: mostly the first one has published by then.\n\n\
         Other knobs in hosts/{HOST}.json: a version with `broken` in it fails its check,\n\
         `build_fails` fails the build with that message, `evaluation_error` the evaluation,\n\
         `build_seconds` makes it slow, `kernel` asks for a reboot. A branch called\n\
         release-{HOST}-test is tried without becoming the default.\n\n\
         To stop it and remove everything:\n\n  {dir}/stop\n",
        stage.paint("1;36", "Left running, as KEEP=1 asked"),
        config.display(),
        stage.metrics,
    );
    let _ = std::io::stdout().flush();
    let let_go = || -> std::io::Result<()> {
        let nowhere = fs::OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&nowhere)?;
        rustix::stdio::dup2_stderr(&nowhere)?;
        let parent = getppid().ok_or(std::io::ErrorKind::NotFound)?;
        Ok(kill_process(parent, Signal::USR1)?)
    };
    let_go().map_err(|error| format!("cannot go on without a terminal: {error}"))?;
    loop {
        std::thread::park();
    }
}

/// A program of one line.
fn script(stage: &Stage, name: &str, words: &[&std::path::Path]) -> Told {
    let quoted = |word: &&std::path::Path| match word.to_string_lossy() {
        all if all == "\"$@\"" => all.into_owned(),
        other => format!("'{}'", other.replace('\'', "'\\''")),
    };
    let line: Vec<String> = words.iter().map(quoted).collect();
    let path = stage.dir.join(name);
    fs::write(&path, format!("#!/bin/sh\nexec {}\n", line.join(" ")))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("{}: {error}", path.display()))
}
