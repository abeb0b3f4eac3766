//! Activation, gates, limits and checks.

use super::*;

#[test]
fn what_only_systemd_can_do_is_refused_without_it() {
    for line in [
        "system.limits = { cpu_weight = 50 }",
        "health.check = [{ name = 'a', unit = 'a.service' }]",
        "activation.on_rollback_failure = 'reboot'",
        "reboot.allow = true",
    ] {
        assert!(wrong(line).contains("needs `activation.runner`"), "{line}");
        let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
        good(&format!("{line}\n{systemd}"));
    }
}

#[test]
fn the_agent_reboots_only_where_it_is_allowed_to() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let reboot = |lines: &str| good(&format!("{lines}\n{systemd}")).reboot;
    assert_eq!(reboot(""), None);
    assert_eq!(reboot("reboot = {}"), Some(Reboot { allow: false, windows: Windows::default() }));
    let windows = ["Mon..Fri 02:00-05:00", "Sat,Sun 22:00-08:00"];
    let both = format!("reboot.windows = {windows:?}");
    let windows = Windows::parse(&windows).unwrap();
    assert_eq!(reboot(&both), Some(Reboot { allow: false, windows: windows.clone() }));
    let both = format!("{both}\nreboot.allow = true");
    assert_eq!(reboot(&both), Some(Reboot { allow: true, windows }));
    // Where nothing reboots by itself, nothing is wrong with saying so.
    assert!(with("reboot.allow = false\nactivation.on_rollback_failure = 'report'").is_ok());
}

#[test]
fn what_is_no_window_or_time_zone_is_named_with_what_was_meant() {
    let list = "`reboot.windows` must be a list of windows such as \"Mon..Fri 02:00-05:00\"";
    for (line, message) in [
        ("reboot.windows = '02:00-05:00'", format!("{list}, not a string")),
        ("reboot.windows = [2]", list.to_owned()),
        ("reboot.windows = [02:00:00]", list.to_owned()),
        (
            "reboot.windows = ['02:00-05:00', 'mon 02:00-05:00']",
            format!(
                "{list}: \"mon 02:00-05:00\" names \"mon\", which is none of the days Mon, Tue, \
                 Wed, Thu, Fri, Sat, Sun; did you mean \"Mon\"?"
            ),
        ),
        (
            "activation.time_zone = 'Europe/Berlim'",
            "`activation.time_zone` must be the name of a time zone such as \"Europe/Berlin\", \
             not \"Europe/Berlim\"; did you mean \"Europe/Berlin\"?"
                .to_owned(),
        ),
        (
            "activation.time_zone = 'CEST'",
            "`activation.time_zone` must be the name of a time zone such as \"Europe/Berlin\", \
             not \"CEST\"; did you mean \"CET\"?"
                .to_owned(),
        ),
        ("activation.time_zone = ''", "`activation.time_zone` must not be empty".to_owned()),
        (
            "activation.time_zone = 2",
            "`activation.time_zone` must be a string, not an integer".to_owned(),
        ),
        ("reboot.allow = 'yes'", "`reboot.allow` must be true or false, not a string".to_owned()),
        ("reboot = true", "`reboot` must be a section, `[reboot]`, not a boolean".to_owned()),
        (
            "reboot.alow = true",
            "unknown key `reboot.alow`; did you mean `reboot.allow`?\n\
             `reboot.allow` = true needs `activation.runner` to be \"systemd\""
                .to_owned(),
        ),
        (
            "reboot.window = []",
            "unknown key `reboot.window`; did you mean `reboot.windows`?".to_owned(),
        ),
        (
            "reboot.time_zone = 'UTC'",
            "unknown key `reboot.time_zone`; did you mean `activation.time_zone`?".to_owned(),
        ),
        (
            "activation.on_kernel_change = 'reboot'",
            "`activation.on_kernel_change` must be \"switch\" or \"boot\", not \"reboot\"; did \
             you mean \"boot\"?"
                .to_owned(),
        ),
        (
            "activation.on_rollback_failure = true",
            "`activation.on_rollback_failure` must be \"report\" or \"reboot\", not a boolean"
                .to_owned(),
        ),
    ] {
        assert_eq!(wrong(line), message, "{line}");
    }
}

#[test]
fn the_gates_are_open_and_can_be_closed() {
    let activation = |lines: &str| good(&format!("{lines}\n{LEAST}")).activation;
    let usual = activation("");
    assert_eq!((usual.confirm, usual.drift), (Confirm::No, Drift::Report));
    assert_eq!(usual.windows, Windows::default());
    let ten_minutes = Confirm::After(Duration::from_secs(600));
    for (written, confirm) in
        [("no", Confirm::No), ("manual", Confirm::Manual), ("10m", ten_minutes)]
    {
        assert_eq!(activation(&format!("activation.confirm = '{written}'")).confirm, confirm);
    }
    assert_eq!(activation("activation.drift = 'revert'").drift, Drift::Revert);
    let written = ["Mon..Fri 02:00-05:00"];
    let windows = activation(&format!("activation.windows = {written:?}")).windows;
    assert_eq!(windows, Windows::parse(&written).unwrap());
    for (line, message) in [
        (
            "activation.confirm = 'perhaps'",
            "`activation.confirm` must be \"no\", \"manual\" or a duration such as \"30s\", \
             \"5m\" or \"2h\"",
        ),
        ("activation.confirm = '0s'", "`activation.confirm` must be longer than zero, or \"no\""),
        ("activation.confirm = '-1s'", "`activation.confirm` must not be negative"),
        ("activation.confirm = true", "`activation.confirm` must be a string, not a boolean"),
    ] {
        assert_eq!(wrong(line), message, "{line}");
    }
}

#[test]
fn what_follows_a_kernel_or_a_failed_way_back_is_chosen() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let activation = good(&systemd).activation;
    assert_eq!(activation.on_kernel_change, OnKernelChange::Switch);
    assert_eq!(activation.on_bus_change, OnBusChange::Boot);
    assert_eq!(activation.on_rollback_failure, OnRollbackFailure::Report);
    assert_eq!(activation.time_zone, None);
    let lines = "activation.on_kernel_change = 'boot'\nactivation.on_bus_change = 'switch'\n\
                 activation.on_rollback_failure = 'reboot'\n\
                 activation.time_zone = 'Europe/Berlin'";
    let activation = good(&format!("{lines}\n{systemd}")).activation;
    assert_eq!(activation.on_kernel_change, OnKernelChange::Boot);
    assert_eq!(activation.on_bus_change, OnBusChange::Switch);
    assert_eq!(activation.on_rollback_failure, OnRollbackFailure::Reboot);
    assert_eq!(activation.time_zone, crate::windows::zone("Europe/Berlin"));
    assert!(activation.time_zone.is_some());
}

#[test]
fn limits_are_sizes_and_weights_as_systemd_has_them() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let limits = |lines: &str| parsed(&format!("system.limits = {{ {lines} }}\n{systemd}"));
    let good = limits("memory_high = '2G', cpu_weight = 50").unwrap().system.limits;
    assert_eq!(
        (good.memory_high, good.cpu_weight, good.io_weight),
        (Some(2 << 30), Some(50), None)
    );
    for bad in [
        "memory_high = '2'G",
        "memory_max = '0'",
        "memory_max = 2",
        "cpu_weight = 0",
        "io_weight = 10001",
    ] {
        assert!(limits(bad).is_err(), "{bad}");
    }
}

#[test]
fn two_remotes_or_checks_of_one_name_are_refused() {
    let twice = format!("{LEAST}\n[[remote]]\nname = 'origin'\nurl = 'https://b/r'");
    let problems = parsed(&twice).unwrap_err().to_string();
    assert!(problems.contains("\"origin\" is already that of another remote"), "{problems}");
    let checks = "health.check = [{name='a',tcp='h:1'},{name='a',tcp='h:2'}]";
    assert_eq!(wrong(checks), "`health.check.name` \"a\" is already that of another check");
}

#[test]
fn a_check_asks_in_exactly_one_way() {
    let check = |keys: &str| wrong(&format!("health.check = [{{ name = 'a'{keys} }}]"));
    assert_eq!(check(""), "`[[health.check]]` needs one of `http`, `command`, `tcp` and `unit`");
    assert_eq!(
        check(", tcp = 'h:1', command = ['true']"),
        "`[[health.check]]` must have only one of `http`, `command`, `tcp` and `unit`"
    );
    for bad in [
        "tcp = 'h'",
        "tcp = 'h:0'",
        "tcp = ':22'",
        "tcp = 'h:+1'",
        "tcp = '::1:22'",
        "tcp = 22",
        "http = 'h/x'",
        "http = 'ftp://h/'",
        "http = 'http://u:p@h/'",
        "command = []",
        "command = 'true'",
        "command = ['']",
        "command = ['bin/x']",
        "command = [1]",
        "command = [\"x\\u0000\"]",
    ] {
        let message = check(&format!(", {bad}"));
        assert!(message.starts_with("`health.check."), "{bad}: {message}");
    }
    let checks = "health.check = [{name='a',tcp='[::1]:22'},{name='b',command=['true','']}]";
    let checks = with(checks).unwrap().health.checks;
    assert_eq!(checks[0].probe, Probe::Tcp("[::1]:22".to_owned()));
    assert_eq!(checks[1].probe, Probe::Command(vec!["true".to_owned(), String::new()]));
}
