//! Writes protobuf messages from values as they are.
//!
//! A body is hashed with every event, and a page has a thousand events: to copy each text of theirs into a generated message
//! first takes longer than all the rest.

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::proto::auditlog::v1 as proto;

use super::{clock::Timestamp, event::ActorType, wire};

/// A message that is being written. Fields are to be put in ascending order of their tags.
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// An empty message, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A field with explicit presence, or an element of a repeated one.
    pub fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        encode_key(tag, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// A text with implicit presence: left out where it is empty.
    pub fn text(&mut self, tag: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    /// Such texts, with the tags from 1.
    pub fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        (1..).zip(texts).for_each(|(tag, text)| self.text(tag, text));
    }

    /// A text in so many parts.
    pub fn text_of(&mut self, tag: u32, parts: &[&str]) {
        self.message(tag, |text| parts.iter().for_each(|part| text.0.extend_from_slice(part.as_bytes())));
    }

    /// A number with implicit presence: left out where it is 0.
    pub fn number(&mut self, tag: u32, number: u64) {
        if number != 0 {
            self.present_number(tag, number);
        }
    }

    /// A number with explicit presence. A negative one is to be given as 64 bits, sign extended.
    pub fn present_number(&mut self, tag: u32, number: u64) {
        encode_key(tag, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
    }

    /// A message within this one. Its length stands before it and is known behind it: one byte is kept free, and what
    /// was written moves on where that is not enough.
    pub fn message(&mut self, tag: u32, put: impl FnOnce(&mut Self)) {
        encode_key(tag, WireType::LengthDelimited, &mut self.0);
        let mut at = self.0.len();
        self.0.push(0);
        put(self);
        let mut length = self.0.len() - at - 1;
        while length > 0x7f {
            self.0[at] = (length & 0x7f) as u8 | 0x80;
            length >>= 7;
            at += 1;
            self.0.insert(at, 0);
        }
        self.0[at] = length as u8;
    }

    /// The fields of a `Resource`.
    pub fn resource(&mut self, kind: &str, id: &str, name: &str) {
        self.texts([kind, id, name]);
    }

    /// The fields of an `Actor`.
    pub fn actor(&mut self, kind: ActorType, id: &str, name: &str) {
        self.number(1, proto::ActorType::from(kind) as u64);
        self.text(2, id);
        self.text(3, name);
    }

    /// The fields of a `FieldChange`: an absent value differs from an empty one.
    pub fn change(&mut self, field: &str, old: Option<&str>, new: Option<&str>) {
        self.text(1, field);
        for (tag, value) in [(2, old), (3, new)] {
            value.iter().for_each(|value| self.bytes(tag, value.as_bytes()));
        }
    }

    /// The fields of a `google.protobuf.Timestamp`.
    pub fn time(&mut self, time: Timestamp) {
        let prost_types::Timestamp { seconds, nanos } = wire::timestamp(time);
        self.number(1, seconds.cast_unsigned());
        self.number(2, i64::from(nanos).cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn writes_what_prost_writes(field in ".{0,80}", old in proptest::option::of(".{0,8}"), length in 0_usize..40_000) {
            let id = "x".repeat(length);
            let mut encoder = Encoder::with_capacity(0);
            encoder.text(1, &id);
            encoder.message(6, |part| part.change(&field, old.as_deref(), None));
            encoder.message(4, |part| part.actor(ActorType::Service, &id, &field));
            let event = proto::Event {
                name: id.clone(),
                changes: vec![proto::FieldChange { field: field.clone(), old_value: old, new_value: None }],
                actor: Some(proto::Actor { r#type: proto::ActorType::Service.into(), id, name: field }),
                ..proto::Event::default()
            };
            let bytes = encoder.into_bytes();
            prop_assert_eq!(bytes.len(), event.encoded_len());
            prop_assert_eq!(proto::Event::decode(&*bytes), Ok(event));
        }

        #[test]
        fn writes_times_as_prost_does(micros in -10_000_000_000_000_i64..253_402_300_799_999_999) {
            let time = Timestamp::from_timestamp_micros(micros).unwrap();
            let mut encoder = Encoder::with_capacity(0);
            encoder.time(time);
            prop_assert_eq!(encoder.into_bytes(), wire::timestamp(time).encode_to_vec());
        }
    }
}
