//! A bracket that is never closed: all that follows is read as what it holds, and
//! each line of it looks like a mistake of its own.

/// Returns where the outermost bracket begins that is still open at the end of the
/// text, in bytes. Headers of tables are no brackets in this sense.
///
/// Reads no more of TOML (v1.0.0) than where its strings, comments and brackets are.
pub(super) fn never_closed(text: &str) -> Option<usize> {
    let mut open: Vec<usize> = Vec::new();
    let (mut at, mut starts_line) = (0, true);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.as_bytes()[0];
        let length = match first {
            b'#' => to_line_end(rest),
            b'[' if open.is_empty() && starts_line => to_line_end(rest),
            b'[' | b'{' => {
                open.push(at);
                1
            }
            b']' | b'}' => {
                open.pop();
                1
            }
            b'"' | b'\'' => string(rest),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += length;
        starts_line = first == b'\n' || (starts_line && first.is_ascii_whitespace());
    }
    open.first().copied()
}

fn to_line_end(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}

/// Returns the length of the string that a text begins with, its quotes included; to
/// the end of its line, or of the text, if it has no end.
fn string(rest: &str) -> usize {
    let quote = &rest[..1];
    let long = quote.repeat(3);
    let (delimiter, ends_with_line) =
        if rest.starts_with(&long) { (long.as_str(), false) } else { (quote, true) };
    let mut at = delimiter.len();
    while let Some(more) = rest.get(at..).filter(|more| !more.is_empty()) {
        if more.starts_with(delimiter) {
            return at + delimiter.len();
        }
        if ends_with_line && more.starts_with('\n') {
            return at;
        }
        let mut chars = more.chars();
        let first = chars.next().map_or(1, char::len_utf8);
        // What is escaped ends nothing; in literal strings nothing is.
        let escaped = if quote == "\"" && more.starts_with('\\') {
            chars.next().map_or(0, char::len_utf8)
        } else {
            0
        };
        at += first + escaped;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_open_is_found_and_the_outermost_of_it() {
        for closed in [
            "",
            "[poll]\ninterval = \"5s\"\n[[remote]]\n",
            "a = [1, [2, 3]]\nb = { c = [4] }\n",
            "a = [\n  \"]\", # ]\n  '[',\n]\n",
            "a = \"[\"\nb = '['\nc = \"\\\"[\"\n# [\n",
            "a = \"\"\"\n[ \" [\n\"\"\"\nb = '''\n{ ' {\n'''\n",
            "a = \"never ended\nb = [1]\n",
            "ä = ['ü']\n",
        ] {
            assert_eq!(never_closed(closed), None, "{closed}");
        }
        assert_eq!(never_closed("a = 1\nb = [\n[poll]\nc = [1]\n"), Some(10));
        assert_eq!(never_closed("a = { b = [1\n"), Some(4));
        assert_eq!(never_closed("a = [[1]\n"), Some(4));
        assert_eq!(never_closed("a = [\"\"\"\n"), Some(4));
    }
}
