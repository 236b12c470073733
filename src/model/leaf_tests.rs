//! Golden bytes of the leaf format, computed outside of this code by `tests/golden/make_leaf_v1.py`. They hold for ever:
//! a change that breaks them breaks every proof that was ever given.

use proptest::prelude::*;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::model::{FieldChange, Resource, TimeId};

use super::*;

const GOLDEN: &str = include_str!("../../tests/golden/leaf_v1.json");

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    event_name: String,
    salt: String,
    expected: Expected,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Kind {
    Event {
        action_type: String,
        #[serde(deserialize_with = "time")]
        record_time: Timestamp,
        body: Box<EventFields>,
    },
    Note {
        note_id: String,
        #[serde(deserialize_with = "time")]
        create_time: Timestamp,
        body: NoteFields,
    },
}

#[derive(Deserialize)]
struct EventFields {
    resource: Named,
    actor: Named,
    message: String,
    changes: Vec<FieldChange>,
    context: Option<ContextFields>,
    attributes: Vec<(String, String)>,
    recorder: Named,
}

#[derive(Deserialize)]
struct NoteFields {
    author: Named,
    text: String,
}

/// A resource or an actor.
#[derive(Deserialize)]
struct Named {
    r#type: String,
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct ContextFields {
    source_ip: String,
    user_agent: String,
    request_id: String,
    trace_id: String,
}

#[derive(Deserialize)]
struct Expected {
    body: String,
    body_commitment: String,
    leaf: String,
    leaf_hash: String,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Named {
    fn resource(self) -> Resource {
        Resource { kind: self.r#type, id: self.id, name: self.name }
    }

    fn actor(self) -> Actor {
        let kind = crate::model::ActorType::parse(&self.r#type).unwrap();
        Actor { kind, id: self.id, name: self.name }
    }
}

impl ContextFields {
    fn context(self) -> RequestContext {
        let Self { source_ip, user_agent, request_id, trace_id } = self;
        RequestContext { source_ip, user_agent, request_id, trace_id }
    }
}

impl EventFields {
    fn split(self) -> (Content, Actor) {
        let content = Content {
            resource: self.resource.resource(),
            actor: self.actor.actor(),
            message: self.message,
            changes: self.changes,
            context: self.context.map(ContextFields::context),
            attributes: self.attributes.into_iter().collect(),
        };
        (content, self.recorder.actor())
    }
}

fn event_name(text: &str) -> EventName {
    let (scope, id) = EventName::split(text).unwrap();
    EventName { scope, id: TimeId::parse(id).unwrap() }
}

/// The body, the commitment and the leaf, as this code makes them.
fn work_out(kind: Kind, event: &EventName, salt: &Salt) -> (Vec<u8>, Hash, Vec<u8>) {
    match kind {
        Kind::Event { action_type, record_time, body } => {
            let action = ActionType::parse(&action_type).unwrap();
            let (content, recorder) = body.split();
            let commitment = event_commitment(salt, &content, &recorder);
            let leaf = event_leaf(event, action, &content.resource.kind, record_time, &commitment);
            (encoded(|message| event_body(message, &content, &recorder)), commitment, leaf)
        }
        Kind::Note { note_id, create_time, body } => {
            let author = body.author.actor();
            let commitment = note_commitment(salt, &author, &body.text);
            let leaf = note_leaf(event, TimeId::parse(&note_id).unwrap(), create_time, &commitment);
            let message = proto::NoteBody { author: Some(author.into()), text: body.text };
            (message.encode_to_vec(), commitment, leaf)
        }
    }
}

#[test]
fn makes_the_golden_bytes() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    assert!(golden.cases.len() >= 5);
    for case in golden.cases {
        let salt: Salt = hex::decode(&case.salt).unwrap().try_into().unwrap();
        let (body, commitment, leaf) = work_out(case.kind, &event_name(&case.event_name), &salt);
        assert_eq!(hex::encode(body), case.expected.body, "body: {}", case.name);
        assert_eq!(hex::encode(commitment), case.expected.body_commitment, "commitment: {}", case.name);
        assert_eq!(hex::encode(&leaf), case.expected.leaf, "leaf: {}", case.name);
        assert_eq!(hex::encode(leaf_hash(&leaf)), case.expected.leaf_hash, "leaf hash: {}", case.name);
    }
}

fn encoded(put: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(0);
    put(&mut encoder);
    encoder.into_bytes()
}

impl From<Resource> for proto::Resource {
    fn from(Resource { kind, id, name }: Resource) -> Self {
        Self { r#type: kind, id, name }
    }
}

impl From<FieldChange> for proto::FieldChange {
    fn from(FieldChange { field, old_value, new_value }: FieldChange) -> Self {
        Self { field, old_value, new_value }
    }
}

impl From<RequestContext> for proto::RequestContext {
    fn from(context: RequestContext) -> Self {
        let RequestContext { source_ip, user_agent, request_id, trace_id, .. } = context;
        Self { source_ip, user_agent, request_id, trace_id }
    }
}

/// The same body as a generated message.
fn message(content: &Content, recorder: &Actor) -> proto::EventBody {
    let Content { resource, actor, message, changes, context, attributes } = content.clone();
    let attribute = |(key, value)| proto::Attribute { key, value };
    proto::EventBody {
        resource: Some(resource.into()),
        actor: Some(actor.into()),
        message,
        changes: changes.into_iter().map(Into::into).collect(),
        context: context.map(Into::into),
        attributes: attributes.into_iter().map(attribute).collect(),
        recorder: Some(recorder.clone().into()),
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{1,8}", "x{120,300}"]
}

fn any_actor() -> impl Strategy<Value = Actor> {
    let kind = prop::sample::select(crate::model::ActorType::ALL.to_vec());
    (kind, any_text(), any_text()).prop_map(|(kind, id, name)| Actor { kind, id, name })
}

fn any_content() -> impl Strategy<Value = Content> {
    let texts = || (any_text(), any_text(), any_text());
    let change = (any_text(), prop::option::of(any_text()), prop::option::of(any_text()))
        .prop_map(|(field, old_value, new_value)| FieldChange { field, old_value, new_value });
    let context = (texts(), any_text()).prop_map(|((source_ip, user_agent, request_id), trace_id)| RequestContext {
        source_ip,
        user_agent,
        request_id,
        trace_id,
    });
    let resource = texts().prop_map(|(kind, id, name)| Resource { kind, id, name });
    let lists = (prop::collection::vec(change, 0..4), prop::collection::btree_map(any_text(), any_text(), 0..4));
    (resource, any_actor(), any_text(), lists, prop::option::of(context)).prop_map(
        |(resource, actor, message, (changes, attributes), context)| Content {
            resource,
            actor,
            message,
            changes,
            context,
            attributes,
        },
    )
}

proptest! {
    #[test]
    fn a_body_is_encoded_as_the_generated_message_is(content in any_content(), recorder in any_actor()) {
        let body = encoded(|body| event_body(body, &content, &recorder));
        prop_assert_eq!(body, message(&content, &recorder).encode_to_vec());
    }
}
