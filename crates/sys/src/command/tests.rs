use super::*;
use std::future::pending;

fn sh(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script]).environment([("PATH", "/usr/bin:/bin")])
}

fn run(command: &Command) -> Finished {
    block(command.run(pending())).unwrap()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_environment_is_the_one_given_and_stdin_is_empty() {
    let command = Command::new("/usr/bin/env").environment([("A", "1"), ("A", "2")]);
    assert_eq!(run(&command).stdout, b"A=2\n");
    let done = run(&sh("cat; pwd"));
    assert_eq!((done.end, &done.stdout[..]), (End::Exit(0), &b"/\n"[..]));
}

#[test]
fn a_child_inherits_no_descriptor() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = String::from_utf8(run(&sh("readlink /proc/$$/fd/*")).stdout).unwrap();
    assert!(open.contains("/dev/null"), "{open}");
    assert!(!open.contains(file.path().to_str().unwrap()), "{open}");
}

#[test]
fn codes_and_signals_are_told_apart() {
    assert_eq!(run(&sh("exit 100")).end, End::Exit(100));
    assert_eq!(run(&sh("kill -9 $$")).end, End::Signal(9));
    let missing = block(Command::new("/nowhere/x").run(pending())).unwrap_err();
    assert_eq!(missing.to_string(), "cannot run /nowhere/x");
    assert!(block(Command::new("sh").run(pending())).is_err());
}

#[test]
fn what_is_kept_is_bounded() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; echo $i; i=$((i+1)); done";
    let done = run(&sh(script).stdout_limit(100).stderr_limit(100));
    assert_eq!((done.stdout.len(), done.stdout_cut), (100, true));
    assert!(done.stderr.len() <= 100, "{}", done.stderr.len());
    assert!(done.stderr.starts_with("line ") && done.stderr.ends_with("line 2999"));
}

#[test]
fn lines_are_handed_out_whole_or_cut_at_the_limit() {
    let mut lines = Vec::new();
    let command = sh("printf 'ab\\n\\ncdefgh\\nx'; printf 'oops' >&2").line_limit(4);
    block(command.run_with_lines(pending(), |stream, line| {
        lines.push((stream, String::from_utf8_lossy(line).into_owned()));
    }))
    .unwrap();
    lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(text, ["ab", "", "cdef", "x", "oops"]);
}

#[test]
fn a_time_limit_ends_it_and_its_children() {
    let start = std::time::Instant::now();
    let done = run(&sh("sleep 300 & echo $!; wait").time_limit(Duration::from_millis(200)));
    assert_eq!(done.end, End::TimedOut);
    assert!(start.elapsed() < GRACE);
    let pid = String::from_utf8(done.stdout).unwrap();
    assert!(has_gone(pid.trim()));
}

#[test]
fn one_that_ignores_sigterm_is_killed() {
    let mut command = sh("trap '' TERM; while :; do sleep 300; done");
    command.grace = Duration::from_millis(200);
    let start = std::time::Instant::now();
    let done = run(&command.time_limit(Duration::from_millis(100)));
    assert_eq!(done.end, End::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < AFTER_KILL);
}

#[test]
fn one_that_never_stops_talking_is_stopped() {
    let done = run(&sh("exec yes").time_limit(Duration::from_millis(100)).stdout_limit(9));
    assert_eq!((done.end, done.stdout.len()), (End::TimedOut, 9));
}

#[test]
fn a_cancelled_one_has_ended() {
    let (seen, saw) = tokio::sync::oneshot::channel::<()>();
    let mut seen = Some(seen);
    let done = block(sh("echo $$; exec sleep 300").run_with_lines(
        async { saw.await.unwrap_or_default() },
        |_, _| {
            _ = seen.take().map(|seen| seen.send(()));
        },
    ))
    .unwrap();
    assert_eq!(done.end, End::Cancelled);
    assert!(has_gone(String::from_utf8(done.stdout).unwrap().trim()));
}

#[test]
fn a_dropped_one_is_killed() {
    let mut pid = String::new();
    block(async {
        let (seen, saw) = tokio::sync::oneshot::channel::<String>();
        let mut seen = Some(seen);
        let command = sh("echo $$; trap '' TERM; sleep 300; sleep 300");
        tokio::select! {
            _ = command.run_with_lines(pending(), |_, line| {
                let line = String::from_utf8_lossy(line).into_owned();
                _ = seen.take().map(|seen| seen.send(line));
            }) => panic!("it ended"),
            line = saw => pid = line.unwrap(),
        }
    });
    assert!(has_gone(&pid));
}

#[test]
fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
    let start = std::time::Instant::now();
    let done = run(&sh("sleep 300 & echo $!"));
    assert_eq!(done.end, End::Exit(0));
    assert!(start.elapsed() < Duration::from_secs(10));
    let pid: i32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Whether a process is gone, or dead and waiting for the one that adopted it.
fn has_gone(pid: &str) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < deadline {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return true,
            Ok(stat) if stat.contains(") Z ") => return true,
            Ok(_) => std::thread::yield_now(),
        }
    }
    false
}
