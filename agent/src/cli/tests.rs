use super::*;

fn parse(line: &str) -> Result<Line, clap::Error> {
    Line::try_parse_from(line.split(' '))
}

#[test]
fn the_definitions_hold_together() {
    use clap::CommandFactory as _;
    Line::command().debug_assert();
}

#[test]
fn config_is_taken_anywhere_but_within_a_job() {
    assert_eq!(parse("fort-agent --config x status").unwrap().config, Some("x".into()));
    assert_eq!(parse("fort-agent status --config x").unwrap().config, Some("x".into()));
    let job = parse("fort-agent job switch --config x --help").unwrap();
    assert_eq!(job.config, None);
    let Command::Job { args } = job.command else { panic!("{job:?}") };
    assert_eq!(args, ["switch", "--config", "x", "--help"]);
}

#[test]
fn json_is_for_what_reports() {
    for line in [
        "status",
        "status --watch",
        "explain",
        "explain 1234567",
        "diff",
        "history",
        "poll",
        "confirm 1234567",
        "accept 1234567",
        "suspend --for 2h --reason x",
        "resume",
        "rollback",
        "retry",
        "check-config",
    ] {
        assert!(parse(&format!("fort-agent {line} --json")).is_ok(), "{line}");
    }
    assert!(parse("fort-agent run --json").is_err());
}

#[test]
fn help_fits_and_does_not_change_unnoticed() {
    use clap::CommandFactory as _;
    insta::assert_snapshot!(Line::command().render_long_help());
}
