//! Identifiers that carry their time: UUID version 7 (RFC 9562, section 5.7).
//!
//! The 48-bit millisecond time inside an event's id *is* the event's time, so that identity, idempotency key, timeline
//! order and page position are one value, and a tie in time cannot lose a row.

use std::fmt;

use uuid::{Builder, Uuid, Variant};

use super::{clock::Timestamp, random};

/// A UUIDv7 in its canonical text form: 36 characters, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeId(Uuid);

/// Identifies an event within its tenant.
pub type EventId = TimeId;
/// Identifies an update note within its tenant.
pub type NoteId = TimeId;

/// Why a text is not a [`TimeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeIdError {
    /// Not the canonical text form of a UUID.
    #[error("must be a UUID of 36 lower-case characters, such as 01890a5d-ac96-774b-bcce-b302099a8057")]
    Malformed,
    /// A UUID of another version or variant: it has no time to order by.
    #[error("must be a UUID of version 7 (RFC 9562), whose time orders the log; this one is not")]
    NotVersion7,
}

/// Why no id can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdError {
    /// The time lies before 1970 or after 9999.
    #[error("{0} is not a time that a UUIDv7 can carry")]
    Time(Timestamp),
}

/// The largest time that 48 bits of milliseconds hold, in the year 10889.
const MAX_MILLIS: i64 = (1 << 48) - 1;
/// The greatest time that can also be shown as an RFC 3339 date and a protobuf timestamp: the end of the year 9999.
const MAX_SHOWN_MILLIS: i64 = 253_402_300_799_999;

impl TimeId {
    /// Reads the canonical text form.
    pub fn parse(text: &str) -> Result<Self, TimeIdError> {
        let uuid = Uuid::try_parse(text).map_err(|_| TimeIdError::Malformed)?;
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(TimeIdError::Malformed);
        }
        Self::from_uuid(uuid)
    }

    /// Takes a UUID of version 7 whose time can be shown.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, TimeIdError> {
        let id = Self(uuid);
        let is_version_7 = uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122;
        (is_version_7 && id.millis() <= MAX_SHOWN_MILLIS).then_some(id).ok_or(TimeIdError::NotVersion7)
    }

    /// An id at `time` (floored to the millisecond) with `random` in its other bits. `None` before 1970 and
    /// after 9999.
    pub fn at(time: Timestamp, random: [u8; 10]) -> Option<Self> {
        let millis = u64::try_from(time.timestamp_millis()).ok()?;
        (millis <= MAX_SHOWN_MILLIS as u64)
            .then(|| Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
    }

    /// A fresh id at `time`.
    pub fn random(time: Timestamp) -> Result<Self, NoIdError> {
        Self::at(time, random::bytes()).ok_or(NoIdError::Time(time))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn millis(self) -> i64 {
        self.0.as_bytes()[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte))
    }

    /// The time that the id carries, to the millisecond.
    pub fn time(self) -> Timestamp {
        Timestamp::from_timestamp_millis(self.millis()).expect("`parse` and `at` keep the time before the year 10000")
    }

    /// The 16 bytes, in the order that sorts by time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads back what [`Self::as_bytes`] gave. `None` if it is no version 7.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        Self::from_uuid(Uuid::from_bytes(bytes)).ok()
    }

    /// The bytes that sort at or before every id of `millis` and after every earlier one: the time, then 80 zero bits.
    pub fn lower_bound(millis: i64) -> [u8; 16] {
        let mut bytes = [0; 16];
        let millis = millis.clamp(0, MAX_MILLIS);
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes
    }

    /// The canonical text form, in `room`.
    pub fn text(self, room: &mut [u8; 36]) -> &str {
        self.0.as_hyphenated().encode_lower(room)
    }
}

impl fmt::Display for TimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_other_versions_and_spellings() {
        for (text, error) in [
            ("", TimeIdError::Malformed),
            ("01890a5dac96774bbcceb302099a8057", TimeIdError::Malformed),
            ("01890A5D-AC96-774B-BCCE-B302099A8057", TimeIdError::Malformed),
            ("{01890a5d-ac96-774b-bcce-b302099a8057}", TimeIdError::Malformed),
            ("a092fecb-2cb1-4c68-809d-1edf688badef", TimeIdError::NotVersion7),
            ("01890a5d-ac96-774b-1cce-b302099a8057", TimeIdError::NotVersion7),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", TimeIdError::NotVersion7),
            ("00000000-0000-0000-0000-000000000000", TimeIdError::NotVersion7),
        ] {
            assert_eq!(TimeId::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn carries_its_time_and_reads_back(millis in 0..=MAX_SHOWN_MILLIS, random: [u8; 10]) {
            let time = Timestamp::from_timestamp_millis(millis).unwrap();
            let id = TimeId::at(time, random).unwrap();
            prop_assert_eq!(id.millis(), millis);
            prop_assert_eq!(id.time(), time);
            prop_assert_eq!(TimeId::parse(&id.to_string()), Ok(id));
            prop_assert_eq!(TimeId::from_bytes(*id.as_bytes()), Some(id));
        }

        #[test]
        fn bounds_separate_milliseconds(millis in 1..MAX_SHOWN_MILLIS, random: [u8; 10]) {
            let id = TimeId::at(Timestamp::from_timestamp_millis(millis).unwrap(), random).unwrap();
            prop_assert!(TimeId::lower_bound(millis) <= *id.as_bytes());
            prop_assert!(*id.as_bytes() < TimeId::lower_bound(millis + 1));
        }
    }
}
