//! Logs as versions of Nix write them.

use super::*;

const DRV: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-tool-1.2.drv";

fn read(lines: &[&str]) -> Log {
    let mut log = Log::new();
    lines.iter().for_each(|line| log.read(line.as_bytes()));
    log
}

fn build_of_a_tool() -> String {
    format!(r#"@nix {{"action":"start","id":9,"type":105,"fields":["{DRV}","",1,1]}}"#)
}

#[test]
fn what_is_copied_is_counted_in_paths_and_bytes() {
    let log = read(&[
        r#"@nix {"action":"start","id":1,"type":102}"#,
        r#"@nix {"action":"start","id":2,"type":103}"#,
        r#"@nix {"action":"result","id":2,"type":105,"fields":[1,3,1,0]}"#,
        r#"@nix {"action":"result","id":1,"type":106,"fields":[100,5000]}"#,
        r#"@nix {"action":"start","id":3,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a","https://c","auto"]}"#,
        r#"@nix {"action":"result","id":3,"type":105,"fields":[700,700,0,0]}"#,
        r#"@nix {"action":"stop","id":3}"#,
        r#"@nix {"action":"start","id":4,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b","https://c","auto"]}"#,
        r#"@nix {"action":"result","id":4,"type":105,"fields":[20,300,0,0]}"#,
    ]);
    let expected = Progress {
        phase: Phase::Fetching,
        fetched: 1,
        to_fetch: 3,
        bytes_done: 720,
        bytes_expected: 5000,
        current: Some("b".into()),
        ..Progress::default()
    };
    assert_eq!(log.progress(), expected);
}

#[test]
fn what_came_over_the_wire_counts_where_nix_says_nothing_of_the_path() {
    let mut lines = vec![
        r#"@nix {"action":"start","id":1,"type":102}"#,
        r#"@nix {"action":"result","id":1,"type":106,"fields":[100,500]}"#,
        r#"@nix {"action":"start","id":2,"type":101,"fields":["https://c/abc.narinfo"]}"#,
        r#"@nix {"action":"result","id":2,"type":105,"fields":[90,90,0,0]}"#,
        r#"@nix {"action":"start","id":3,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
        r#"@nix {"action":"result","id":3,"type":105,"fields":[300,300,0,0]}"#,
        r#"@nix {"action":"stop","id":3}"#,
    ];
    let bytes = |lines: &[&str]| {
        let Progress { bytes_done, bytes_expected, .. } = read(lines).progress();
        (bytes_done, bytes_expected)
    };
    assert_eq!(bytes(&lines), (300, 500));
    // Tried again: it is not more than there is.
    lines.extend([
        r#"@nix {"action":"start","id":4,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
        r#"@nix {"action":"result","id":4,"type":105,"fields":[300,300,0,0]}"#,
    ]);
    assert_eq!(bytes(&lines), (500, 500));
}

#[test]
fn a_path_is_shown_by_its_name_and_not_by_that_of_the_file_it_comes_in() {
    let mut lines =
        vec![r#"@nix {"action":"start","id":1,"type":101,"fields":["https://c/abc.narinfo"]}"#];
    assert_eq!(read(&lines).progress().current.as_deref(), Some("abc.narinfo"));
    lines.extend([
        r#"@nix {"action":"start","id":2,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a","https://c","auto"]}"#,
        r#"@nix {"action":"start","id":3,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
    ]);
    assert_eq!(read(&lines).progress().current.as_deref(), Some("a"));
}

#[test]
fn a_build_is_what_is_shown_while_there_is_one() {
    let log = read(&[&build_of_a_tool(), r#"@nix {"action":"start","id":10,"type":101}"#]);
    let Progress { phase, current, .. } = log.progress();
    assert_eq!((phase, current.as_deref()), (Phase::Building, Some("tool-1.2")));
}

#[test]
fn the_cause_is_the_first_error_with_the_builders_last_words() {
    let error = format!(
        r#"@nix {{"action":"msg","level":0,"msg":"\u001b[31merror:\u001b[0m x","raw_msg":"builder for '{DRV}' failed"}}"#
    );
    let log = read(&[
        &build_of_a_tool(),
        r#"@nix {"action":"result","id":9,"type":101,"fields":["no space left"]}"#,
        r#"@nix {"action":"result","id":9,"type":101,"fields":[" "]}"#,
        r#"@nix {"action":"stop","id":9}"#,
        &error,
        r#"@nix {"action":"msg","level":0,"msg":"error: dependencies failed"}"#,
    ]);
    let failure = log.failure();
    assert_eq!(failure.cause, format!("builder for '{DRV}' failed: no space left"));
    assert_eq!(failure.drv.as_deref(), Some(DRV));
    assert_eq!(
        failure.tail,
        "tool-1.2> no space left\ntool-1.2>  \nerror: x\nerror: dependencies failed"
    );
}

#[test]
fn a_failure_is_told_by_what_was_going_on() {
    let error = r#"@nix {"action":"msg","level":0,"msg":"error: x"}"#;
    let (start, stop) =
        (r#"@nix {"action":"start","id":1,"type":104}"#, r#"@nix {"action":"stop","id":1}"#);
    let count = r#"@nix {"action":"result","id":1,"type":105,"fields":[0,1,0,1]}"#;
    let fault = |lines: &[&str]| read(lines).failure().fault;
    assert_eq!(fault(&[error]), Fault::Evaluation);
    assert_eq!(fault(&[start, stop, error]), Fault::Evaluation);
    assert_eq!(fault(&[start, error]), Fault::Build);
    assert_eq!(fault(&[start, count, stop, error]), Fault::Build);
    let Failure { cause, fault, .. } = read(&[]).failure();
    assert_eq!((cause.as_str(), fault), ("nix failed without a word", Fault::Nix));
}

#[test]
fn nothing_that_is_read_grows_without_bound() {
    let mut log = Log::new();
    let long = "x".repeat(100_000);
    for id in 0..20_000 {
        let start = format!(r#"@nix {{"action":"start","id":{id},"type":{id},"fields":["{id}"]}}"#);
        log.read(start.as_bytes());
    }
    for id in 0..20_000 {
        log.read(format!(r#"@nix {{"action":"stop","id":{id}}}"#).as_bytes());
    }
    log.read(format!(r#"@nix {{"action":"msg","level":0,"msg":"{long}"}}"#).as_bytes());
    assert!(log.activities.is_empty() && log.done.len() <= 3);
    let Failure { cause, tail, .. } = log.failure();
    assert!(cause.len() < 1000 && tail.len() <= TAIL_BYTES);
}

#[test]
fn what_is_no_line_of_nix_is_kept_as_text() {
    let failure = read(&["", "warning: \u{1b}[1mdirty\u{1b}[0m", "@nix", "@nix {"]).failure();
    assert_eq!((failure.cause.as_str(), failure.tail.as_str()), ("@nix", "warning: dirty\n@nix"));
}

/// Log lines of `nix build` for a small system, up to the first build or download.
fn begins(more: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = [
        r#"@nix {"action":"start","id":1,"level":0,"text":"","type":102}"#,
        r#"@nix {"action":"start","id":2,"level":0,"text":"","type":104}"#,
        r#"@nix {"action":"start","id":3,"level":0,"text":"","type":103}"#,
        r#"@nix {"action":"result","fields":[0,1,0,0],"id":2,"type":105}"#,
    ]
    .map(str::to_owned)
    .into();
    lines.extend(more.iter().map(|&line| line.to_owned()));
    lines
}

const ENDS: [&str; 3] = [
    r#"@nix {"action":"stop","id":3}"#,
    r#"@nix {"action":"stop","id":2}"#,
    r#"@nix {"action":"stop","id":1}"#,
];

fn fails(between: &[&str], error: &str) -> Failure {
    let error =
        format!(r#"@nix {{"action":"msg","level":0,"msg":"error: {error}","raw_msg":"{error}"}}"#);
    let mut log = Log::new();
    let lines = begins(between).into_iter().chain(ENDS.map(str::to_owned)).chain([error]);
    lines.for_each(|line| log.read(line.as_bytes()));
    log.failure()
}

#[test]
fn a_build_that_was_never_begun_is_no_fault_of_the_evaluation() {
    // As 2.8, 2.26 and 2.34 say it of a sandbox that cannot be made.
    let sandbox = fails(&[], "getting attributes of path '/nowhere': No such file or directory");
    assert_eq!(sandbox.fault, Fault::NotBegun);
    let sandbox = fails(&[], "cannot perform a sandboxed build");
    assert_eq!(sandbox.fault, Fault::NotBegun);
    // A download was tried: that is the matter, not what a build needs.
    let asks = r#"@nix {"action":"start","id":4,"type":101,"fields":["https://c/x.narinfo"]}"#;
    assert_eq!(fails(&[asks], "unable to download").fault, Fault::Build);
}

#[test]
fn what_no_machine_here_may_build_is_told_as_such_in_the_words_of_every_version() {
    let failed = r#"@nix {"action":"result","fields":[0,1,0,1],"id":2,"type":105}"#;
    let foreign = "a 'aarch64-linux' with features {} is required to build 'x.drv', but I am";
    assert_eq!(fails(&[], foreign).fault, Fault::NoBuilder);
    let foreign = r"Cannot build 'x.drv'.\nReason: platform mismatch\nRequired system: 'aarch64'";
    assert_eq!(fails(&[failed], foreign).fault, Fault::NoBuilder);
    let features = r"Cannot build 'x.drv'.\nReason: missing system features";
    assert_eq!(fails(&[failed], features).fault, Fault::NoBuilder);
    let none = "unable to start any build; either increase '--max-jobs' or enable remote builds";
    assert_eq!(fails(&[], none).fault, Fault::NoBuilder);
    let none = r"Cannot build 'x.drv'.\nReason: local builds are disabled (max-jobs = 0)";
    assert_eq!(fails(&[], none).fault, Fault::NoBuilder);
    // Whoever knows none of these words still says what Nix said.
    let Failure { cause, fault, .. } = fails(&[failed], "no luck with x.drv");
    assert_eq!((cause.as_str(), fault), ("no luck with x.drv", Fault::Build));
    // An expression may have such words in it.
    let text =
        r#"@nix {"action":"msg","level":0,"msg":"error: set max-jobs","raw_msg":"set max-jobs"}"#;
    assert_eq!(read(&[text]).failure().fault, Fault::Evaluation);
}

#[test]
fn a_platform_that_is_missing_only_for_the_last_build_is_seen_too() {
    let one = r#"@nix {"action":"result","fields":[1,2,0,0],"id":2,"type":105}"#;
    let builds = build_of_a_tool();
    let foreign = "a 'aarch64-linux' with features {} is required to build 'x.drv'";
    assert_eq!(fails(&[&builds, one], foreign).fault, Fault::NoBuilder);
    // With the same counters 2.34 ends what went well, and then evaluates on.
    assert_eq!(fails(&[&builds, one], "after 1").fault, Fault::Evaluation);
}

#[test]
fn a_hook_that_fails_after_a_build_is_not_the_build() {
    let hook = format!(
        r#"@nix {{"action":"start","id":10,"type":110,"fields":["{DRV}"],"text":"running post-build-hook '/x'"}}"#
    );
    let says = r#"@nix {"action":"result","id":10,"type":107,"fields":["no route to the cache"]}"#;
    let stops = [r#"@nix {"action":"stop","id":10}"#, r#"@nix {"action":"stop","id":9}"#];
    let begun = r#"@nix {"action":"result","fields":[0,1,1,0],"id":2,"type":105}"#;
    let between = [&build_of_a_tool(), begun, &hook, says, stops[0], stops[1]];
    let Failure { cause, fault, drv, tail } = fails(&between, "program '/x' failed");
    assert_eq!(
        (cause.as_str(), fault),
        ("program '/x' failed: no route to the cache", Fault::PostBuildHook)
    );
    assert_eq!(drv.as_deref(), Some(DRV));
    assert!(tail.contains("post-build-hook> no route to the cache"), "{tail}");
    // It went well, and something else failed later.
    let done = r#"@nix {"action":"result","fields":[1,2,0,0],"id":2,"type":105}"#;
    let failed = r#"@nix {"action":"result","fields":[1,1,0,1],"id":2,"type":105}"#;
    let between = [&build_of_a_tool(), begun, &hook, stops[0], done, stops[1], failed];
    assert_eq!(fails(&between, "another failed").fault, Fault::Build);
}

#[test]
fn settings_that_cannot_be_read_are_named_instead_of_a_hint_at_the_help() {
    let lines = [
        "warning: unknown setting 'x'",
        "error: configuration setting 'max-jobs' should be 'auto' or an integer",
        "Try 'nix --help' for more information.",
    ];
    let Failure { cause, fault, .. } = read(&lines).failure();
    assert_eq!(cause, "configuration setting 'max-jobs' should be 'auto' or an integer");
    assert_eq!(fault, Fault::NixSettings);
    // Once it has begun it has read them.
    let begun = [r#"@nix {"action":"stop","id":1}"#, lines[1]];
    assert_eq!(read(&begun).failure().fault, Fault::Evaluation);
}

#[test]
fn an_error_too_long_for_its_line_is_told_as_far_as_it_was_read() {
    let long = r"first \u001b[31;1mline\u001b[0m of an assertion\nsecond ".repeat(9000);
    let line = format!(
        r#"@nix {{"action":"msg","column":null,"file":null,"level":0,"line":null,"msg":"\u001b[31;1merror:\u001b[0m {long}","raw_msg":"{long}"}}"#
    );
    // Wherever it is cut: in an escape, in a character, or in the second telling.
    for cut in [1000, 1004, 1011, 1013, 1019, 262_144, line.len() - 50] {
        let failure = read(&[&line[..cut]]).failure();
        assert_eq!(failure.fault, Fault::Evaluation);
        assert!(failure.cause.starts_with("first line of an assertion\nsecond"), "{failure:?}");
    }
    // What comes first in a newer version is where it happened.
    let trace = r"error:\n       … while calling the 'throw' builtin\n\n       error: the moon is not full\n       error: it is new ";
    let line = format!(r#"@nix {{"action":"msg","level":0,"msg":"{trace}"#);
    let failure = read(&[&line]).failure();
    assert_eq!(failure.cause, "the moon is not full\nerror: it is new");
    // Only of errors: a line of a builder that is cut says nothing.
    assert_eq!(
        read(&[r#"@nix {"action":"result","id":1,"msg":"error: x"#]).failure().fault,
        Fault::Nix
    );
}

#[test]
fn a_failed_builder_is_told_with_its_reason_and_its_last_words() {
    let error = format!(
        r"Cannot build '{DRV}'.\nReason: builder failed with exit code 3.\nOutput paths:\n  /nix/store/x"
    );
    let words = r#"@nix {"action":"result","id":9,"type":101,"fields":["oh no"]}"#;
    let Failure { cause, .. } = fails(&[&build_of_a_tool(), words], &error);
    assert_eq!(cause, format!("Cannot build '{DRV}': builder failed with exit code 3: oh no"));
}

#[test]
fn settings_of_the_flake_that_are_not_followed_are_named_once_each() {
    let warning = |name: &str, more: &str| {
        format!(
            r#"@nix {{"action":"msg","level":1,"msg":"\u001b[35;1mwarning:\u001b[0m ignoring untrusted flake configuration setting '{name}'{more}"}}"#
        )
    };
    let newer = r".\nPass '--accept-flake-config' to trust it";
    let lines = [
        warning("extra-substituters", ""),
        warning("extra-trusted-public-keys", newer),
        warning("extra-substituters", newer),
        r#"@nix {"action":"msg","level":1,"msg":"warning: dirty"}"#.into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let known = ["extra-substituters", "extra-trusted-public-keys"];
    assert_eq!(read(&lines).progress().ignored, known);
}

#[test]
fn totals_are_those_that_were_announced_and_never_jump() {
    let announces = |path: &str| format!(r#"@nix {{"action":"msg","level":3,"msg":"  {path}"}}"#);
    let counts = |id: u64, fields: &str| {
        format!(r#"@nix {{"action":"result","id":{id},"type":105,"fields":[{fields}]}}"#)
    };
    let lines = [
        announces(DRV),
        announces("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a"),
        announces("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b"),
        counts(2, "0,40,0,0"),
        counts(3, "0,1,1,0"),
        counts(3, "1,2,1,0"),
        counts(2, "0,1,1,0"),
        counts(3, "2,2,0,0"),
        counts(2, "1,1,0,0"),
    ];
    let mut log = Log::new();
    begins(&[]).iter().for_each(|line| log.read(line.as_bytes()));
    let mut totals = std::collections::BTreeSet::new();
    for line in &lines {
        log.read(line.as_bytes());
        if line.contains("result") {
            let Progress { to_build, to_fetch, .. } = log.progress();
            totals.insert((to_build, to_fetch));
        }
    }
    assert_eq!(totals.into_iter().collect::<Vec<_>>(), [(1, 2)]);
}

#[test]
fn without_an_announcement_what_may_still_be_fetched_is_not_counted_as_to_be_built() {
    let log = read(&[
        r#"@nix {"action":"start","id":2,"type":104}"#,
        r#"@nix {"action":"start","id":3,"type":103}"#,
        r#"@nix {"action":"result","id":2,"type":105,"fields":[0,501,0,0]}"#,
        r#"@nix {"action":"result","id":3,"type":105,"fields":[7,500,4,0]}"#,
    ]);
    let Progress { to_build, to_fetch, .. } = log.progress();
    assert_eq!((to_build, to_fetch), (0, 500));
}
