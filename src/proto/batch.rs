//! `auditlog.v1.BatchRecordEventsRequest`, as the server takes it.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::auditlog::v1;

/// The fields of a batch that holds events, of such an event's request, and those of an event that may be there any number
/// of times: changes, attributes and, though nobody may send any, notes.
const REQUESTS: [u32; 1] = [1];
const EVENT: [u32; 1] = [2];
const DETAILS: [u32; 3] = [6, 8, 13];

/// A batch that is decoded only where it has no more parts than this. An empty part takes two bytes on the wire and hundreds in memory,
/// so the limit of a message's bytes alone would let one of 8 MiB take 2.5 GiB.
pub const MOST: Parts = Parts { events: 1 << 16, details: 1 << 18 };

/// How many parts an encoded batch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Its events.
    pub events: usize,
    /// The changes and attributes of all its events.
    pub details: usize,
}

/// A batch, and how many parts came. It is empty where those are more than [`MOST`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchRecordEventsRequest {
    /// The batch.
    pub message: v1::BatchRecordEventsRequest,
    /// What came.
    pub parts: Parts,
}

impl Parts {
    /// Counts them, as prost would find them.
    fn of(batch: &[u8]) -> Result<Self, DecodeError> {
        let mut parts = Self::default();
        each(batch, &REQUESTS, &mut |request| {
            parts.events += 1;
            each(request, &EVENT, &mut |event| {
                each(event, &DETAILS, &mut |_| {
                    parts.details += 1;
                    Ok(())
                })
            })
        })?;
        Ok(parts)
    }

    /// Whether they are few enough.
    pub fn are_few(self) -> bool {
        self.events <= MOST.events && self.details <= MOST.details
    }
}

/// Gives the bytes of each of these fields of a message.
fn each<'m>(
    mut message: &'m [u8],
    fields: &[u32],
    give: &mut dyn FnMut(&'m [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message)?;
        let mut value = message;
        skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
        if fields.contains(&tag) && wire_type == WireType::LengthDelimited {
            value = &value[..value.len() - message.len()];
            decode_varint(&mut value)?;
            give(value)?;
        }
    }
    Ok(())
}

/// Messages are made by the macros of prost; what a batch has of its own is [`merge`](Message::merge), which is given all of it.
impl Message for BatchRecordEventsRequest {
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        let bytes: Bytes = buf.copy_to_bytes(buf.remaining());
        self.parts = Parts::of(&bytes)?;
        if self.parts.are_few() { self.message.merge(bytes) } else { Ok(()) }
    }

    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.message.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.message.merge_field(tag, wire_type, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.message.encoded_len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Each event has so many changes, attributes and notes.
    fn batch(details: &[[usize; 3]]) -> v1::BatchRecordEventsRequest {
        let event = |[changes, attributes, notes]: [usize; 3]| v1::Event {
            changes: vec![v1::FieldChange::default(); changes],
            attributes: (0..attributes).map(|n| (n.to_string(), String::new())).collect(),
            update_notes: vec![v1::UpdateNote::default(); notes],
            ..Default::default()
        };
        let request =
            |details: &[usize; 3]| v1::RecordEventRequest { event: Some(event(*details)), ..Default::default() };
        v1::BatchRecordEventsRequest { requests: details.iter().map(request).collect(), parent: "tenants/a".to_owned() }
    }

    fn decoded(batch: &v1::BatchRecordEventsRequest) -> BatchRecordEventsRequest {
        BatchRecordEventsRequest::decode(&batch.encode_to_vec()[..]).unwrap()
    }

    #[test]
    fn what_has_too_many_parts_is_counted_and_not_decoded() {
        let few = decoded(&batch(&[[2, 1, 0], [0, 0, 0], [3, 0, 4]]));
        assert_eq!(few.parts, Parts { events: 3, details: 10 });
        let events = BatchRecordEventsRequest::decode(&[0x0a, 0].repeat(MOST.events + 1)[..]).unwrap();
        assert_eq!(events.parts, Parts { events: MOST.events + 1, details: 0 });
        for many in [[MOST.details, 0, 0], [0, MOST.details, 0], [0, 0, MOST.details]] {
            let many = decoded(&batch(&[[1, 0, 0], many]));
            assert_eq!(many.parts, Parts { events: 2, details: MOST.details + 1 });
            assert!(!many.parts.are_few());
            assert_eq!(many.message, v1::BatchRecordEventsRequest::default());
        }
    }

    proptest! {
        /// What prost reads is what is counted, but for attributes that replace each other; and what prost refuses is refused.
        #[test]
        fn it_is_the_message_that_prost_reads(
            details in vec(any::<[u8; 3]>().prop_map(|counts| counts.map(|count| usize::from(count % 4))), 0..6),
            garbage in vec(any::<u8>(), 0..12),
            at in any::<prop::sample::Index>(),
        ) {
            let mut bytes = batch(&details).encode_to_vec();
            let at = at.index(bytes.len());
            bytes.splice(at..at, garbage);
            let (ours, theirs) = (BatchRecordEventsRequest::decode(&bytes[..]), v1::BatchRecordEventsRequest::decode(&bytes[..]));
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    let of_event = |event: &v1::Event| event.changes.len() + event.attributes.len() + event.update_notes.len();
                    let found = theirs.requests.iter().filter_map(|request| request.event.as_ref()).map(of_event).sum();
                    prop_assert_eq!((ours.parts.events, &ours.message), (theirs.requests.len(), &theirs));
                    prop_assert!(ours.parts.details >= found, "{:?} {}", ours.parts, found);
                }
                (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err(), "{ours:?} {theirs:?}"),
            }
        }
    }
}
