//! The caller's place in its trace: the header `traceparent` of W3C Trace Context.

use std::fmt;

use http::HeaderMap;

use crate::model::TraceId;

/// The header, and the metadata key.
const TRACEPARENT: &str = "traceparent";
/// `00-{trace id}-{span id}-{flags}`.
const LEN: usize = 55;
/// The bit of the flags that says that the caller's trace is being recorded.
const SAMPLED: u8 = 1;

/// The span of the caller's from which the call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span in it.
    pub span_id: SpanId,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// A span's id; shown as 16 hexadecimal digits. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

impl SpanId {
    /// The number that the digits write.
    pub fn to_number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TraceParent {
    /// What the headers say. The rule for a header that is malformed, or there twice, is to go on as if there were none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (first, second) = (values.next()?, values.next());
        second.is_none().then(|| Self::parse(first.to_str().ok()?)).flatten()
    }

    /// A version after 00 may say more after the flags, and is read as far as 00 goes. The version ff is none.
    fn parse(text: &str) -> Option<Self> {
        let version = hex(text, 0..2).filter(|version| *version != 0xff)?;
        let ends_well = match version {
            0 => text.len() == LEN,
            _ => text.len() == LEN || text.as_bytes().get(LEN) == Some(&b'-'),
        };
        let has_dashes = [2, 35, 52].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
        let span_id = hex(text, 36..52).filter(|id| *id != 0)?;
        let flags = hex(text, 53..LEN)?;
        (ends_well && has_dashes).then_some(Self {
            trace_id: TraceId::parse(text.get(3..35)?)?,
            span_id: SpanId(span_id),
            is_sampled: flags & u64::from(SAMPLED) != 0,
        })
    }
}

/// The number in `text` at `range`, if that is hexadecimal in lower case.
fn hex(text: &str, range: std::ops::Range<usize>) -> Option<u64> {
    let digits = text.get(range)?;
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_by_the_rule() {
        let good = TraceParent::parse(GOOD).unwrap();
        assert_eq!(good.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((good.span_id.to_string().as_str(), good.is_sampled), ("00f067aa0ba902b7", true));
        let unsampled = TraceParent::parse(&GOOD.replace("-01", "-02")).unwrap();
        assert!(!unsampled.is_sampled);
        for later in [GOOD.replacen("00", "cc", 1), format!("{}-what-comes", GOOD.replacen("00", "01", 1))] {
            assert_eq!(TraceParent::parse(&later), Some(good), "{later}");
        }
    }

    #[test]
    fn ignores_what_is_malformed() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", at in 0..55_usize, other in any::<char>()) {
            let _ = TraceParent::parse(&text);
            let damaged: String = GOOD.chars().enumerate().map(|(i, c)| if i == at { other } else { c }).collect();
            let _ = TraceParent::parse(&damaged);
        }
    }
}
