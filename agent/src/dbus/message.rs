//! Head of a message, which says how large the message is, what it is, and whose.
//!
//! Only the head is looked at: sixteen bytes of fixed form, then the fields. The
//! bus has checked it for everybody but zbus, which ends a connection over a
//! field that it does not know, and over a sender that is no unique name.
//!
//! Source: D-Bus specification, "Message Format".

use zbus::message::Message;

use super::Takes;

/// Size of the fixed part of a message, in bytes.
pub(super) const START: usize = 16;
/// Largest fields of a message, in bytes: some names and a path.
const FIELDS: usize = 64 << 10;
/// Largest message of all, in bytes, by the specification.
const WHOLE: usize = 128 << 20;

/// The field that says how many file descriptors come with a message.
const UNIX_FDS: u8 = 9;

/// The field SENDER, a string of 24 bytes, as systemd writes it; and what stands
/// in for the name.
const SENDER: &[u8] = b"\x07\x01s\0";
const SYSTEMD: &[u8] = b"org.freedesktop.systemd1\0";
const STAND_IN: &[u8] = b":org.freedesktop.systemd\0";

/// Treatment of a message that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Taken as it is.
    Whole,
    /// Taken without its body, which is larger than it may be.
    Cut,
    /// Read past, and not handed on.
    Skipped,
    /// An answer that is larger than it may be.
    TooLarge,
}

/// How long a message is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// Length of the fields.
    fields: usize,
    /// Length of the head: start and fields, with the padding after them.
    pub(super) head: usize,
    /// Length of what follows the head.
    pub(super) body: usize,
}

impl Lengths {
    /// Reads the lengths from the start of a message; `None` if it cannot be one.
    pub(super) fn of(start: &[u8; START]) -> Option<Self> {
        let fields = number(start, 12)?;
        let body = number(start, 4)?;
        let head = START.checked_add(fields)?.checked_next_multiple_of(8)?;
        (head.checked_add(body)? <= WHOLE).then_some(Self { fields, head, body })
    }

    /// Whether nobody would give a message such fields.
    pub(super) fn absurd(&self) -> bool {
        self.fields > FIELDS
    }

    /// Decides the treatment of a message that has this head.
    pub(super) fn fate(&self, head: &[u8], takes: &Takes) -> Fate {
        if !self.understood(head) {
            return Fate::Skipped;
        }
        let fits = |most| self.head + self.body <= most;
        match head.get(1) {
            Some(1) if fits(takes.calls) => Fate::Whole,
            Some(1) => Fate::Cut,
            Some(2 | 3) if fits(takes.replies) => Fate::Whole,
            Some(2 | 3) => Fate::TooLarge,
            Some(4) if fits(takes.signals) => Fate::Whole,
            // The specification has other types ignored.
            _ => Fate::Skipped,
        }
    }

    /// Whether zbus knows all fields, and none says that file descriptors come
    /// along.
    fn understood(&self, head: &[u8]) -> bool {
        let end = START + self.fields;
        let mut at = START;
        while at < end {
            let Some(&[code, 1, kind, 0]) = head.get(at..at + 4) else { return false };
            let value = at + 4;
            let after = match (code, kind) {
                (1, b'o') | (2 | 3 | 4 | 6 | 7, b's') => {
                    number(head, value).map(|length| value + 4 + length + 1)
                }
                (8, b'g') => head.get(value).map(|length| value + 1 + usize::from(*length) + 1),
                (UNIX_FDS, b'u') => (number(head, value) == Some(0)).then_some(value + 4),
                (5, b'u') => Some(value + 4),
                _ => None,
            };
            let Some(after) = after.filter(|after| *after <= end) else { return false };
            at = after.next_multiple_of(8);
        }
        true
    }
}

/// Leaves a head that nothing follows.
pub(super) fn cut_off_body(head: &mut [u8]) {
    if let Some(length) = head.get_mut(4..8) {
        length.fill(0);
    }
}

/// Whether a message has lost its body on the way in, because it was too large.
/// No other has a signature and nothing that it describes.
pub(crate) fn is_cut(message: &Message) -> bool {
    let body = message.body();
    body.is_empty() && *body.signature() != zbus::Signature::Unit
}

/// Gives what systemd says a sender that zbus takes.
///
/// With no bus between there are no unique names, and systemd calls itself
/// `org.freedesktop.systemd1`. The specification has a unique name there, and
/// zbus ends a connection over any other; so one of the same length, which
/// nobody needs, is put in its place.
pub(super) fn rename_systemd(head: &mut [u8]) {
    // Each field begins at a multiple of eight bytes. Strings hold no zero, so
    // nothing else in them looks like this field.
    let mut at = START;
    while let Some(field) = head.get_mut(at..) {
        if let Some(name) = field.get_mut(8..8 + SYSTEMD.len())
            && name == SYSTEMD
            && field.starts_with(SENDER)
        {
            field[8..8 + SYSTEMD.len()].copy_from_slice(STAND_IN);
            return;
        }
        at += 8;
    }
}

/// Reads the number at a position, in the byte order of the message.
fn number(message: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
    let number = match message.first()? {
        b'l' => u32::from_le_bytes(bytes),
        b'B' => u32::from_be_bytes(bytes),
        _ => return None,
    };
    usize::try_from(number).ok()
}
