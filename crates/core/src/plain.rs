//! Text that others wrote, made fit to be shown.
//!
//! A remote's error, a build's output, the name of a process: whatever comes from
//! outside goes through here where it comes in, and so is the same harmless text
//! in the journal, in JSON, on the page and on a terminal.

/// Largest part of a server's line that is kept, in bytes.
const LINE: usize = 300;

/// Whether a character is obeyed where it is shown, rather than seen: by a
/// terminal, an editor or a browser.
///
/// Controls (C0, DEL and C1), the line and paragraph separators, and the marks
/// that turn the direction of what follows, so that it reads as something else.
pub fn is_obeyed(c: char) -> bool {
    match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        c => c.is_control(),
    }
}

/// Returns the text on one line, without anything that is obeyed, and with single blanks.
pub fn clean(text: &str) -> String {
    let shown: String = text.chars().map(blank_if_obeyed).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the text on one line, without anything that is obeyed, and at most 300 bytes of it:
/// what a server says ends up in a log.
pub fn one_line(text: &str) -> String {
    let mut line = text.chars().map(blank_if_obeyed).take(LINE).collect::<String>();
    while line.len() > LINE {
        line.pop();
    }
    line.trim().to_owned()
}

/// Decodes text of several lines: lines and tabs are kept; escape sequences and whatever else is
/// obeyed are not. Bytes that are not UTF-8 are replaced.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                // ECMA-48: parameters, then one final byte from @ to ~.
                Some('[') => {
                    rest.find(|c| ('@'..='~').contains(c));
                }
                // A title or a link: up to BEL, or ESC and a backslash.
                Some(']') => {
                    rest.find(|c| matches!(c, '\u{7}' | '\\' | '\n'));
                }
                Some(_) | None => {}
            },
            '\n' | '\t' => plain.push(c),
            // A line that somebody else's program would break here.
            '\u{2028}' | '\u{2029}' => plain.push(' '),
            c if is_obeyed(c) => {}
            c => plain.push(c),
        }
    }
    plain
}

fn blank_if_obeyed(c: char) -> char {
    if is_obeyed(c) { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_people_has_no_escapes() {
        assert_eq!(plain(b"\x1b[31;1merror:\x1b[0m a\tb\r\x07\n"), "error: a\tb\n");
        assert_eq!(plain(b"\x1b]8;;http://x\x07link\x1b]0;t\x1b\\ \xff"), "link \u{fffd}");
        assert_eq!(plain(b"\x1b["), "");
        assert_eq!(plain(b"\x1b"), "");
    }

    /// Covers Unicode's Bidi_Control (UAX 9), Unicode's two separators, and all controls.
    #[test]
    fn nothing_that_is_obeyed_passes_any_way() {
        let marks = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\
                     \u{2067}\u{2068}\u{2069}\u{2028}\u{2029}";
        let controls: String = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).collect();
        for c in marks.chars().chain(controls.chars()) {
            assert!(is_obeyed(c), "{c:?}");
            let text = format!("a{c}b");
            for shown in [clean(&text), one_line(&text)] {
                assert_eq!(shown, "a b", "{c:?}");
            }
            let kept = plain(text.as_bytes());
            assert!(matches!(c, '\n' | '\t') || !kept.chars().any(is_obeyed), "{c:?}: {kept:?}");
        }
        for c in ['a', 'é', '\u{5d0}', '\u{627}', '\u{200d}', '\u{1f980}', '\u{2027}', '\u{202f}']
        {
            assert!(!is_obeyed(c), "{c:?}");
        }
    }

    #[test]
    fn a_line_is_no_longer_than_it_may_be() {
        assert_eq!(clean("a\x1b[31m\r\nb\u{202e}c\tz\u{9b}1m"), "a [31m b c z 1m");
        assert_eq!(one_line(&"é".repeat(400)).len(), 300);
        assert_eq!(one_line(" a\nb "), "a b");
    }
}
