//! Durations as an operator writes them: `500ms`, `30s`, `5m`, `2h`, `1d`.
//!
//! One whole number and one unit: `90m`, not `1h30m`.

use std::time::Duration;

/// Examples of a duration, for error messages.
pub(super) const EXAMPLES: &str = "a duration such as \"30s\", \"5m\" or \"2h\"";

/// Longest duration, a year: longer is a slip of the pen, and sums of it must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// Reads a duration. An error continues a sentence: "... must be a duration
/// such as ...". Zero is a duration, a negative one is not.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_start_matches('-').len();
    let negative = digits != text.len();
    let unsigned = &text[text.len() - digits..];
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => DAY * 1000,
        "" => return Err(format!("be {EXAMPLES}: the unit (ms, s, m, h or d) is missing")),
        _ => return Err(format!("be {EXAMPLES}")),
    };
    if number.is_empty() {
        return Err(format!("be {EXAMPLES}"));
    }
    if negative {
        return Err("not be negative".to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "be at most \"365d\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_a_duration() {
        for text in [
            "",
            "s",
            "30",
            "-",
            "-5s",
            "--5s",
            "+5s",
            "5 s",
            " 5s",
            "5s ",
            "1.5h",
            "1h30m",
            "5M",
            "5sec",
            "½h",
            "٣s",
            "366d",
            "18446744073709551615d",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("-5s"), Err("not be negative".to_owned()));
    }
}
