//! How long a call may take.

use std::time::Duration;

use http::HeaderMap;

/// The metadata key in which a caller says how long it waits.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Our own answer goes out this much earlier than the transport, which reads the same key, would give one without a reason.
const AHEAD: Duration = Duration::from_millis(5);

/// How long to wait for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The time.
    pub time: Duration,
    /// Whether it is the caller who waits no longer.
    pub is_callers: bool,
}

impl Patience {
    /// As long as the caller waits, and never longer than `most`.
    pub fn of(headers: &HeaderMap, most: Duration) -> Self {
        match headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse) {
            Some(time) if time < most => Self { time: time.saturating_sub(AHEAD), is_callers: true },
            _ => Self { time: most, is_callers: false },
        }
    }
}

/// At most eight digits and a unit, as gRPC writes it.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_callers_time_where_it_is_shorter() {
        let most = Duration::from_secs(30);
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(GRPC_TIMEOUT), value.parse().unwrap())]);
            Patience::of(&headers, most)
        };
        for (value, millis) in [("1S", 995), ("100m", 95), ("3m", 0), ("5000u", 0), ("1n", 0)] {
            assert_eq!(of(value), Patience { time: Duration::from_millis(millis), is_callers: true }, "{value}");
        }
        for value in ["", "S", "30S", "1M", "99999999H", "123456789n", "-1S", "+1S", "1", "1s", "1 S"] {
            assert_eq!(of(value), Patience { time: most, is_callers: false }, "{value}");
        }
    }
}
