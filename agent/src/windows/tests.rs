use super::*;

fn windows(written: &[&str]) -> Windows {
    Windows::parse(written).unwrap()
}

fn berlin() -> TimeZone {
    zone("Europe/Berlin").unwrap()
}

fn wall(moment: &str) -> Wall {
    moment.parse().unwrap()
}

/// `open until ...` or `closed until ...`, in UTC.
#[track_caller]
fn stands(windows: &Windows, now: &str, zone: &TimeZone) -> String {
    let state = windows.at(wall(now), zone);
    let until = state.changes.map_or_else(|| "for ever".to_owned(), |wall| wall.to_string());
    format!("{} {until}", if state.open { "open" } else { "closed" })
}

/// Checks the state at every minute, as slowly and plainly as it can be done.
fn check_each_minute(windows: &Windows, from: &str, days: i64, zone: &TimeZone) {
    let start = wall(from).as_millis();
    let mut expected: Option<(bool, Option<Wall>)> = None;
    for minute in 0..days * 24 * 60 {
        let now = Wall::from_millis(start + minute * 60_000);
        let state = windows.at(now, zone);
        if let Some((open, changes)) = expected {
            let is_change = changes == Some(now);
            assert_eq!(state.open != open, is_change, "{windows} at {now}: {changes:?}");
            if !is_change {
                assert_eq!(state.changes, changes, "{windows} at {now}");
            }
        }
        assert!(state.changes.is_none_or(|changes| changes > now), "{windows} at {now}");
        expected = Some((state.open, state.changes));
    }
}

#[test]
fn no_windows_are_always_open() {
    assert_eq!(stands(&windows(&[]), "2026-07-01T00:00:00Z", &berlin()), "open for ever");
}

#[test]
fn a_window_opens_and_closes_on_its_days() {
    let nights = windows(&["Mon..Fri 02:00-05:00"]);
    let utc = TimeZone::UTC;
    // The first of July 2026 is a Wednesday.
    assert_eq!(stands(&nights, "2026-07-01T01:59:59Z", &utc), "closed 2026-07-01T02:00:00Z");
    assert_eq!(stands(&nights, "2026-07-01T02:00:00Z", &utc), "open 2026-07-01T05:00:00Z");
    assert_eq!(stands(&nights, "2026-07-01T04:59:59Z", &utc), "open 2026-07-01T05:00:00Z");
    assert_eq!(stands(&nights, "2026-07-01T05:00:00Z", &utc), "closed 2026-07-02T02:00:00Z");
    // From Friday to Monday.
    assert_eq!(stands(&nights, "2026-07-03T05:00:00Z", &utc), "closed 2026-07-06T02:00:00Z");
    // In Berlin it is two hours later, and Wednesday sooner.
    assert_eq!(stands(&nights, "2026-06-30T23:59:59Z", &berlin()), "closed 2026-07-01T00:00:00Z");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let friday = windows(&["Fri 22:00-04:00"]);
    let utc = TimeZone::UTC;
    assert_eq!(stands(&friday, "2026-07-03T03:00:00Z", &utc), "closed 2026-07-03T22:00:00Z");
    assert_eq!(stands(&friday, "2026-07-03T23:00:00Z", &utc), "open 2026-07-04T04:00:00Z");
    assert_eq!(stands(&friday, "2026-07-04T03:59:00Z", &utc), "open 2026-07-04T04:00:00Z");
    assert_eq!(stands(&friday, "2026-07-04T22:30:00Z", &utc), "closed 2026-07-10T22:00:00Z");
    // The week's last night goes on in the next week.
    let sunday = windows(&["Sun 22:00-00:00", "Sun 23:00-02:00"]);
    assert_eq!(stands(&sunday, "2026-07-05T22:30:00Z", &utc), "open 2026-07-06T02:00:00Z");
}

#[test]
fn adjacent_and_overlapping_windows_are_one() {
    let utc = TimeZone::UTC;
    let two = windows(&["22:00-24:00", "00:00-04:00"]);
    assert_eq!(stands(&two, "2026-07-01T22:00:00Z", &utc), "open 2026-07-02T04:00:00Z");
    let all = windows(&["00:00-12:00", "11:00-13:00", "13:00-24:00"]);
    assert_eq!(stands(&all, "2026-07-01T12:59:59Z", &utc), "open for ever");
    let week = windows(&["Mon..Thu 00:00-24:00", "Fri..Sun 00:00-24:00"]);
    assert_eq!(stands(&week, "2026-03-28T12:00:00Z", &berlin()), "open for ever");
}

#[test]
fn a_whole_day_is_as_long_as_that_day_is() {
    let sunday = windows(&["Sun 00:00-24:00"]);
    // 23 hours, and 25.
    assert_eq!(stands(&sunday, "2026-03-28T23:00:00Z", &berlin()), "open 2026-03-29T22:00:00Z");
    assert_eq!(stands(&sunday, "2026-10-24T22:00:00Z", &berlin()), "open 2026-10-25T23:00:00Z");
    assert_eq!(stands(&sunday, "2026-10-25T23:00:00Z", &berlin()), "closed 2026-10-31T23:00:00Z");
}

#[test]
fn what_the_clock_leaps_over_is_not_there() {
    // At 02:00 on March 29th it is 03:00 (01:00 UTC).
    let before = "2026-03-29T00:30:00Z";
    let all_of_it = windows(&["02:00-03:00"]);
    assert_eq!(stands(&all_of_it, before, &berlin()), "closed 2026-03-30T00:00:00Z");
    let within = windows(&["Sun 02:10-02:50"]);
    assert_eq!(stands(&within, before, &berlin()), "closed 2026-04-05T00:10:00Z");
    assert_eq!(stands(&within, "2026-03-23T00:00:00Z", &berlin()), "closed 2026-04-05T00:10:00Z");
    let begins_in_it = windows(&["02:30-05:00"]);
    assert_eq!(stands(&begins_in_it, before, &berlin()), "closed 2026-03-29T01:00:00Z");
    assert_eq!(
        stands(&begins_in_it, "2026-03-29T01:00:00Z", &berlin()),
        "open 2026-03-29T03:00:00Z"
    );
    let ends_in_it = windows(&["01:00-02:30"]);
    assert_eq!(stands(&ends_in_it, before, &berlin()), "open 2026-03-29T01:00:00Z");
    // What is not open in the hour that is not there has no break.
    let around = windows(&["00:00-02:00", "03:00-06:00"]);
    assert_eq!(stands(&around, before, &berlin()), "open 2026-03-29T04:00:00Z");
}

#[test]
fn what_the_clock_shows_twice_is_there_twice() {
    // At 03:00 on October 25th it is 02:00 (01:00 UTC).
    let hour = windows(&["02:00-03:00"]);
    assert_eq!(stands(&hour, "2026-10-25T00:00:00Z", &berlin()), "open 2026-10-25T02:00:00Z");
    let within = windows(&["02:10-02:50"]);
    for (now, expected) in [
        ("2026-10-25T00:00:00Z", "closed 2026-10-25T00:10:00Z"),
        ("2026-10-25T00:10:00Z", "open 2026-10-25T00:50:00Z"),
        ("2026-10-25T00:50:00Z", "closed 2026-10-25T01:10:00Z"),
        ("2026-10-25T01:10:00Z", "open 2026-10-25T01:50:00Z"),
        ("2026-10-25T01:50:00Z", "closed 2026-10-26T01:10:00Z"),
    ] {
        assert_eq!(stands(&within, now, &berlin()), expected, "{now}");
    }
    let ends_in_it = windows(&["01:00-02:30"]);
    assert_eq!(stands(&ends_in_it, "2026-10-25T00:00:00Z", &berlin()), "open 2026-10-25T00:30:00Z");
    // 02:00 again, without any window's beginning.
    assert_eq!(
        stands(&ends_in_it, "2026-10-25T00:45:00Z", &berlin()),
        "closed 2026-10-25T01:00:00Z"
    );
}

#[test]
fn half_hours_and_quarters_are_zones_too() {
    let nights = windows(&["02:00-05:00"]);
    for (name, opens) in [
        ("Asia/Kolkata", "2026-07-01T20:30:00Z"),
        ("Asia/Kathmandu", "2026-07-01T20:15:00Z"),
        ("America/St_Johns", "2026-07-02T04:30:00Z"),
    ] {
        let zone = zone(name).unwrap();
        assert_eq!(stands(&nights, "2026-07-01T12:00:00Z", &zone), format!("closed {opens}"));
    }
    // Its summer is half an hour long: on October 4th, 02:00 is 02:30.
    let lord_howe = zone("Australia/Lord_Howe").unwrap();
    let begins = windows(&["02:15-03:00"]);
    assert_eq!(stands(&begins, "2026-10-03T15:00:00Z", &lord_howe), "closed 2026-10-03T15:30:00Z");
}

#[test]
fn what_is_foretold_is_what_comes() {
    let many = [
        &["02:00-05:00"][..],
        &["Sun 02:10-02:50"],
        &["Sat 22:00-02:30"],
        &["Sat,Sun 00:00-24:00"],
        &["01:59-02:00", "03:00-03:01"],
        &["23:30-00:30", "Sun 00:30-02:15"],
    ];
    for windows in many.map(windows) {
        for (name, from) in [
            ("Europe/Berlin", "2026-03-28T00:00:00Z"),
            ("Europe/Berlin", "2026-10-24T00:00:00Z"),
            // At midnight: 00:00 is 01:00, and 24:00 is 23:00.
            ("Asia/Beirut", "2026-03-28T00:00:00Z"),
            ("America/Sao_Paulo", "2018-02-17T00:00:00Z"),
            // The whole 30th of December 2011 is not there.
            ("Pacific/Apia", "2011-12-29T00:00:00Z"),
        ] {
            check_each_minute(&windows, from, 2, &zone(name).unwrap());
        }
    }
}

#[test]
fn a_clock_that_is_wrong_harms_nothing() {
    let nights = windows(&["02:00-05:00"]);
    for now in [i64::MIN, -1, 0, 4_070_908_800_000, i64::MAX / 2, i64::MAX] {
        nights.at(Wall::from_millis(now), &berlin());
    }
    let last = jiff::Timestamp::MAX.as_millisecond();
    nights.at(Wall::from_millis(last), &berlin());
    let first = jiff::Timestamp::MIN.as_millisecond();
    nights.at(Wall::from_millis(first), &berlin());
}

#[test]
fn days_are_lists_and_ranges() {
    let on = |text: &str| {
        let days = days(text).unwrap();
        DAYS.iter().zip(days).filter(|(_, on)| *on).map(|(day, _)| *day).collect::<Vec<_>>()
    };
    assert_eq!(on("Mon"), ["Mon"]);
    assert_eq!(on("Tue..Thu"), ["Tue", "Wed", "Thu"]);
    assert_eq!(on("Mon,Wed,Sat"), ["Mon", "Wed", "Sat"]);
    assert_eq!(on("Sat..Mon,Wed"), ["Mon", "Wed", "Sat", "Sun"]);
    assert_eq!(on("Mon..Mon"), ["Mon"]);
    assert_eq!(on("Mon..Sun"), DAYS);
}

#[test]
fn what_is_no_window_is_said() {
    for (text, why) in [
        ("", "is no window such as"),
        ("always", "is no window such as"),
        ("Sat", "has no times: a whole day is \"Sat 00:00-24:00\""),
        ("mon 02:00-05:00", "did you mean \"Mon\"?"),
        ("Monday 02:00-05:00", "did you mean \"Mon\"?"),
        ("Mo 02:00-05:00", "which is none of the days Mon, Tue"),
        ("Mon-Fri 02:00-05:00", "names \"Mon-Fri\""),
        ("Mon, Wed 02:00-05:00", "is no window such as"),
        ("Mon,  02:00-05:00", "is no window such as"),
        ("Mon.. 02:00-05:00", "names \"\""),
        ("2:00-05:00", "names \"2:00\", which is no time"),
        ("02:00-5", "names \"5\""),
        ("02:60-05:00", "names \"02:60\""),
        ("02:00-24:01", "names \"24:01\""),
        ("02:00-25:00", "names \"25:00\""),
        ("+2:00-05:00", "names \"+2:00\""),
        ("24:00-05:00", "begins at 24:00"),
        ("05:00-05:00", "is empty: a whole day is 00:00-24:00"),
        ("00:00-00:00", "is empty"),
        ("02:00 - 05:00", "is no window such as"),
    ] {
        let said = Windows::parse(&[text]).expect_err(text).to_string();
        assert!(said.starts_with(&format!("{text:?} ")) && said.contains(why), "{said}");
    }
    let said = Windows::parse(&["02:00-05:00"; 65]).unwrap_err().to_string();
    assert_eq!(said, "\"02:00-05:00\" is one more than 64");
    assert!(Windows::parse(&["02:00-05:00"; 64]).is_ok());
}

#[test]
fn windows_are_shown_as_they_were_written() {
    let two = ["Sat..Sun 22:00-04:00", "12:00-13:00"];
    assert_eq!(windows(&two).to_string(), two.join(", "));
}

#[test]
fn zones_are_known_by_name_and_no_others() {
    assert_eq!(berlin().iana_name(), Some("Europe/Berlin"));
    assert_eq!(zone("UTC"), Some(TimeZone::UTC));
    for none in ["", "Europe/Berlim", "Etc/Unknown", "../../etc/passwd", "/etc/localtime", "CET-1"]
    {
        assert_eq!(zone(none), None, "{none}");
    }
    assert!(zone_names().iter().any(|name| name == "Europe/Berlin"));
    // What comes with the program is as good.
    let bundled = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
    let nights = windows(&["02:30-05:00"]);
    let before = "2026-03-29T00:30:00Z";
    assert_eq!(stands(&nights, before, &bundled), "closed 2026-03-29T01:00:00Z");
}

#[test]
fn a_host_has_the_zone_of_its_localtime() {
    let link = |targets: &[(&str, &str)]| {
        let root = tempfile::tempdir().unwrap();
        for (path, target) in targets {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        host_zone(root.path())
    };
    assert_eq!(link(&[]), TimeZone::UTC);
    assert_eq!(link(&[("etc/localtime", "/etc/zoneinfo/Europe/Berlin")]), berlin());
    assert_eq!(link(&[("etc/localtime", "../usr/share/zoneinfo/Europe/Berlin")]), berlin());
    let through = [
        ("etc/localtime", "static/localtime"),
        ("etc/static/localtime", "/etc/zoneinfo/Europe/Berlin"),
    ];
    assert_eq!(link(&through), berlin());
    assert_eq!(link(&[("etc/localtime", "localtime")]), TimeZone::UTC);
    assert_eq!(link(&[("etc/localtime", "/etc/zoneinfo/Europe/Berlim")]), TimeZone::UTC);
    // A copy, with no name to it.
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::copy("/usr/share/zoneinfo/Europe/Berlin", etc.join("localtime")).unwrap();
    let copy = host_zone(root.path());
    let noon = "2026-07-01T12:00:00Z".parse().unwrap();
    assert_eq!(copy.to_offset(noon), berlin().to_offset(noon));
    std::fs::write(etc.join("localtime"), "rubbish").unwrap();
    assert_eq!(host_zone(root.path()), TimeZone::UTC);
}
