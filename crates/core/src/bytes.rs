//! The one way in which a number of bytes is shown to people: in binary units, as the
//! configuration has them.

/// Shows a number of bytes: `812 B`, `9.6 KiB`, `2.2 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // 1,023.95 would be rounded to 1,024.0 of its unit.
    let fits = |shift: u32| bytes < (1 << (shift + 10)) - (1 << shift) / 20;
    let nth = (0..3).find(|nth| fits(10 * (nth + 1))).unwrap_or(3);
    #[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let amount = bytes as f64 / (1_u64 << (10 * (nth + 1))) as f64;
    format!("{amount:.1} {}", UNITS[nth as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_leaves_the_fewest_digits() {
        let shown = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (9_830, "9.6 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (12 << 20, "12.0 MiB"),
            (838_861, "819.2 KiB"),
            (3 << 30, "3.0 GiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ];
        for (number, text) in shown {
            assert_eq!(bytes(number), text, "{number}");
        }
    }
}
