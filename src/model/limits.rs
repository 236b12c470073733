//! How much a request may hold, and which text is text.

use std::time::Duration;

/// The limits of section "Limits" of the README. All lengths are bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `resource.type`.
    pub resource_type_bytes: usize,
    /// Ids, a context's fields but the user agent, and a filter's values.
    pub id_bytes: usize,
    /// Names, a change's field, the user agent.
    pub name_bytes: usize,
    /// `message`.
    pub message_bytes: usize,
    /// A note's text.
    pub note_bytes: usize,
    /// Changes of one event.
    pub changes: usize,
    /// One old or new value of a change.
    pub change_value_bytes: usize,
    /// Attributes of one event.
    pub attributes: usize,
    /// An attribute's key.
    pub attribute_key_bytes: usize,
    /// An attribute's value.
    pub attribute_value_bytes: usize,
    /// One event, encoded.
    pub event_bytes: usize,
    /// Events of one batch, at most [`Self::MOST_BATCH_EVENTS`].
    pub batch_events: usize,
    /// One batch, encoded.
    pub batch_bytes: usize,
    /// Notes of one event.
    pub notes: usize,
    /// Values of one field of a filter.
    pub filter_values: usize,
    /// Events that one page may inspect before it ends early.
    pub inspected_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resource_type_bytes: 128,
            id_bytes: 256,
            name_bytes: 512,
            message_bytes: 4096,
            note_bytes: 4096,
            changes: 100,
            change_value_bytes: 8192,
            attributes: 64,
            attribute_key_bytes: 128,
            attribute_value_bytes: 1024,
            event_bytes: 64 * 1024,
            batch_events: 1000,
            batch_bytes: 4 * 1024 * 1024,
            notes: 100,
            filter_values: 50,
            inspected_events: 20_000,
        }
    }
}

impl Limits {
    /// The most events of a batch that may be allowed.
    pub const MOST_BATCH_EVENTS: usize = 1 << 16;

    /// The most bytes of an indexed text that may be allowed: an entry of an index of PostgreSQL has 2704, for a tenant and an id, too.
    pub const MOST_INDEXED_BYTES: usize = 2048;

    /// The most bytes that a request other than a batch needs: one event, one note, or the four lists of a filter.
    pub fn single_bytes(&self) -> usize {
        let filter = 4 * self.filter_values * (self.id_bytes.max(self.resource_type_bytes) + 4);
        self.event_bytes.max(self.note_bytes).max(filter) + 4096
    }
}

/// How much may come, and how long it may take. `Default` gives the documented defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Bytes of a call's metadata, as HTTP/2 counts them.
    pub header_bytes: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Time for the TLS handshake and the first bytes of a connection.
    pub handshake_time: Duration,
    /// Time without a byte in either direction after which a connection is closed.
    pub idle_time: Duration,
    /// Calls at a time on one connection.
    pub connection_calls: usize,
    /// Calls at a time of all callers.
    pub calls: usize,
    /// Calls at a time of one caller.
    pub caller_calls: usize,
    /// Calls a second of one caller.
    pub caller_rate: usize,
    /// Time of a call until its reply begins.
    pub call_time: Duration,
    /// Exports at a time of all callers.
    pub exports: usize,
    /// Exports at a time of one caller.
    pub caller_exports: usize,
    /// Time for which an export's reader may keep the next piece waiting.
    pub export_stall: Duration,
}

impl Default for TrafficLimits {
    fn default() -> Self {
        Self {
            header_bytes: 16 * 1024,
            connections: 4096,
            handshake_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(120),
            connection_calls: 1024,
            calls: 8192,
            caller_calls: 2048,
            caller_rate: 100_000,
            call_time: Duration::from_secs(30),
            exports: 32,
            caller_exports: 4,
            export_stall: Duration::from_secs(60),
        }
    }
}

/// How far ahead of the server's clock an event's time may be, for clocks that disagree: 5 minutes.
pub const MAX_AHEAD_MILLIS: i64 = 5 * 60 * 1000;

/// The most bytes of a page, encoded: gRPC clients accept 4 MiB a message unless told otherwise.
pub const PAGE_BYTES: usize = 7 * 512 * 1024;

/// Resource types with this prefix are the service's own.
pub const RESERVED_TYPE_PREFIX: &str = "audit_";

/// What is asked of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRule {
    /// Whether it may not be empty.
    pub required: bool,
    /// The most bytes of UTF-8.
    pub max_bytes: usize,
}

/// How a text breaks its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Empty, and must not be.
    #[error("is required")]
    Empty,
    /// Too long.
    #[error("must be at most {max_bytes} bytes of UTF-8; it has {len}")]
    TooLong {
        /// The limit.
        max_bytes: usize,
        /// What it has.
        len: usize,
    },
    /// Holds a control character (PostgreSQL refuses NUL, a terminal obeys the others).
    #[error("must hold no control characters other than tab, LF and CR; there is U+{code:04X} at byte {at}")]
    Control {
        /// Its code point.
        code: u32,
        /// Where it stands.
        at: usize,
    },
}

impl TextRule {
    /// A text that may be empty.
    pub fn optional(max_bytes: usize) -> Self {
        Self { required: false, max_bytes }
    }

    /// A text that may not be empty.
    pub fn required(max_bytes: usize) -> Self {
        Self { required: true, max_bytes }
    }

    /// Holds `text` against the rule.
    pub fn check(self, text: &str) -> Result<(), TextError> {
        if self.required && text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > self.max_bytes {
            return Err(TextError::TooLong { max_bytes: self.max_bytes, len: text.len() });
        }
        if text.bytes().all(is_plain) {
            return Ok(());
        }
        match text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            Some((at, c)) => Err(TextError::Control { code: c.into(), at }),
            None => Ok(()),
        }
    }
}

/// Whether a byte is a character by itself, and none that controls. Most texts hold nothing else, and bytes take a fraction of the
/// time that characters take.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_bytes_and_finds_controls() {
        let rule = TextRule::optional(4);
        assert_eq!(rule.check(""), Ok(()));
        assert_eq!(rule.check("🦀"), Ok(()));
        assert_eq!(rule.check("🦀a"), Err(TextError::TooLong { max_bytes: 4, len: 5 }));
        assert_eq!(rule.check("\t\r\n"), Ok(()));
        assert_eq!(rule.check("a\0"), Err(TextError::Control { code: 0, at: 1 }));
        assert_eq!(rule.check("\u{7f}"), Err(TextError::Control { code: 0x7f, at: 0 }));
        assert_eq!(rule.check("é\u{85}"), Err(TextError::Control { code: 0x85, at: 2 }));
        assert_eq!(TextRule::required(4).check(""), Err(TextError::Empty));
    }
}
