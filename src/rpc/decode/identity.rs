//! Time and identity are one key: the 48-bit time in an event's id is the event's time.
//!
//! | given | id and time |
//! |---|---|
//! | neither | the server's: a repeated call records twice |
//! | only the time | an id of the server's, at that millisecond: a repeated call records twice |
//! | only the id | the time is read from it |
//! | both | they must agree to the millisecond |

use chrono::SecondsFormat;
use prost_types::Timestamp as ProtoTimestamp;

use super::{Decoder, Path};
use crate::model::{
    IdOrigin, Timestamp,
    filter::bound_millis,
    limits::MAX_AHEAD_MILLIS,
    time_id::{EventId, TimeId},
};

const NANOS: &str = "must have nanos from 0 to 999999999";
/// The range of an event's time is that of [`TimeId`], as far as RFC 3339 can show it.
const RANGE: &str = "must be a time from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z";
/// The range that `google.protobuf.Timestamp` gives itself.
const PROTO_RANGE: &str = "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z";
const PROTO_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Decoder<'_> {
    /// The id, and with it the time, of the event at `path`. `fresh` is an id of the server's at the present time; it
    /// tells the time and lends its random bits.
    pub(super) fn identity(
        &mut self,
        path: Path<'_>,
        event_id: &str,
        event_time: Option<&ProtoTimestamp>,
        fresh: TimeId,
    ) -> Option<(EventId, IdOrigin)> {
        let (id_path, event_path) = (path.field("event_id"), path.field("event"));
        let time_path = event_path.field("event_time");
        match (event_id, event_time) {
            ("", None) => Some((fresh, IdOrigin::Server)),
            ("", Some(time)) => Some((self.id_at(time_path, time, fresh)?, IdOrigin::Server)),
            (id, None) => Some((self.present_id(id_path, id, fresh)?, IdOrigin::Client)),
            (id, Some(time)) => {
                let at = self.id_at(time_path, time, fresh);
                let id = self.present_id(id_path, id, fresh)?;
                Some((self.agreed(time_path, id, at?)?, IdOrigin::Client))
            }
        }
    }

    /// An id at `time`, floored to the millisecond.
    fn id_at(&mut self, path: Path<'_>, time: &ProtoTimestamp, fresh: TimeId) -> Option<TimeId> {
        let nanos = self.require(path, nanos(time), NANOS)?;
        let id = Timestamp::from_timestamp(time.seconds, nanos).and_then(|time| TimeId::at(time, random_bits(fresh)));
        let id = self.require(path, id, RANGE)?;
        self.not_ahead(path, id, fresh)
    }

    fn present_id(&mut self, path: Path<'_>, text: &str, fresh: TimeId) -> Option<EventId> {
        let id = self.event_id(path, text)?;
        self.not_ahead(path, id, fresh)
    }

    fn not_ahead(&mut self, path: Path<'_>, id: TimeId, fresh: TimeId) -> Option<TimeId> {
        if id.millis() <= fresh.millis() + MAX_AHEAD_MILLIS {
            return Some(id);
        }
        let (time, now) = (rfc3339(id.time()), rfc3339(fresh.time()));
        self.refuse(
            path,
            format_args!(
                "must be at most {} minutes ahead of the server's clock; it is {time}, there it is {now}",
                MAX_AHEAD_MILLIS / 60_000
            ),
        );
        None
    }

    fn agreed(&mut self, path: Path<'_>, id: EventId, at: TimeId) -> Option<EventId> {
        if id.millis() == at.millis() {
            return Some(id);
        }
        let (time, of_id) = (rfc3339(at.time()), rfc3339(id.time()));
        self.refuse(
            path,
            format_args!("must agree with event_id to the millisecond; it is {time}, event_id has {of_id}"),
        );
        None
    }

    /// A filter's bound in milliseconds since 1970.
    pub(super) fn bound_millis(&mut self, path: Path<'_>, time: &ProtoTimestamp) -> Option<i64> {
        let nanos = self.require(path, nanos(time), NANOS)?;
        let seconds = PROTO_SECONDS.contains(&time.seconds).then_some(time.seconds);
        let seconds = self.require(path, seconds, PROTO_RANGE)?;
        Some(bound_millis(seconds, nanos))
    }
}

fn nanos(time: &ProtoTimestamp) -> Option<u32> {
    u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)
}

/// The bits behind the time. The version's and the variant's are among them; making an id sets those anew.
fn random_bits(id: TimeId) -> [u8; 10] {
    let [_, _, _, _, _, _, random @ ..] = *id.as_bytes();
    random
}

fn rfc3339(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
