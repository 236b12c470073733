//! The id of a trace, as W3C Trace Context writes it.

use std::fmt;

/// The digits of a trace id.
const LEN: usize = 32;

/// A trace's id: 32 hexadecimal digits in lower case, not all of them zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// Reads one; `None` for whatever else `text` is.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_hex = text.len() == LEN && text.bytes().all(is_digit);
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().filter(|id| *id != 0).map(Self)
    }

    /// The number that the digits write.
    pub fn to_number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for id in ["4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000001"] {
            assert_eq!(TraceId::parse(id).unwrap().to_string(), id);
        }
        for text in [
            "",
            "4bf92f3577b34da6a3ce929d0e0e473",
            "4bf92f3577b34da6a3ce929d0e0e47366",
            "4BF92F3577B34DA6A3CE929D0E0E4736",
            "+bf92f3577b34da6a3ce929d0e0e4736",
            "00000000000000000000000000000000",
            "4bf92f35-77b3-4da6-a3ce-929d0e0e4",
        ] {
            assert_eq!(TraceId::parse(text), None, "{text}");
        }
    }
}
