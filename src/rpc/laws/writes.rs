//! What holds of events and notes that are to be recorded.

use prost::Message as _;

use super::{fresh, parent, refusal};
use crate::{
    export,
    model::{
        Actor, ActorType, Content, Draft, Entry, Event, EventBody, EventDraft, EventName, EventView, IdOrigin, Limits,
        NoteRules, Scope, Sealed, TextRule, TimeId,
        laws::{text, viewed},
        limits::MAX_AHEAD_MILLIS,
    },
    proto::{auditlog::v1 as proto, encoded},
    rpc::{
        decode::{self, Decoder},
        encode,
    },
};

/// An event is taken as it stands, and is then told and exported as it was taken; or it is refused.
pub fn record(bytes: &[u8]) {
    let Ok(request) = proto::RecordEventRequest::decode(bytes) else { return };
    let Some(scope) = parent(&request.parent) else { return };
    match Decoder::new(&Limits::default()).record(request.clone(), fresh()) {
        Ok(draft) => taken(&request, &scope, draft),
        Err(violations) => refusal(violations),
    }
}

/// A batch is of one tenant and within its limits, and each of its events is what it would be alone.
pub fn batch(bytes: &[u8]) {
    let Ok(counted) = encoded::BatchRecordEventsRequest::decode(bytes) else { return };
    let limits = Limits::default();
    let read = decode::counted_batch(counted, &limits)
        .and_then(|request| decode::batch_scopes(&request).map(|scopes| (request, scopes)));
    let (request, scopes) = match read {
        Ok(read) => read,
        Err(violations) => return refusal(violations),
    };
    assert_eq!(scopes.events.len(), request.requests.len());
    match Decoder::new(&limits).batch(request.clone(), &scopes, vec![fresh(); request.requests.len()]) {
        Ok(drafts) => {
            assert!((1..=limits.batch_events).contains(&drafts.len()) && drafts.len() == request.requests.len());
            assert!(request.encoded_len() <= limits.batch_bytes);
            let tenant = scopes.outermost().map(|scope| scope.to_tenant());
            for ((draft, scope), item) in drafts.into_iter().zip(&scopes.events).zip(&request.requests) {
                assert_eq!(Some(scope.to_tenant()), tenant);
                assert!(scopes.parent.as_ref().is_none_or(|parent| parent.contains(scope)));
                assert_eq!(scope.to_string(), if item.parent.is_empty() { &request.parent } else { &item.parent }[..]);
                taken(item, scope, draft);
            }
        }
        Err(violations) => refusal(violations),
    }
}

/// A note is taken as it stands, for the event that its name names; or it is refused.
pub fn note(bytes: &[u8]) {
    let Ok(request) = proto::AddUpdateNoteRequest::decode(bytes) else { return };
    let (scope, id) = match decode::scope_of_name(&request.name) {
        Ok(split) => split,
        Err(violations) => return refusal(violations),
    };
    let limits = Limits::default();
    match Decoder::new(&limits).note(&request, id, fresh()) {
        Ok(draft) => {
            assert_eq!(decode::id_in_name(id), Ok(draft.event_id));
            assert_eq!(EventName { scope, id: draft.event_id }.to_string(), request.name);
            assert_eq!(draft.text, request.text);
            text(&draft.text, TextRule::required(limits.note_bytes));
            given(&request.note_id, draft.id, draft.id_origin);
        }
        Err(violations) => refusal(violations),
    }
}

/// The client's own id, or one of the server's.
fn given(text: &str, id: TimeId, origin: IdOrigin) {
    match text {
        "" => assert_eq!(origin, IdOrigin::Server),
        text => assert_eq!((id.to_string().as_str(), origin), (text, IdOrigin::Client)),
    }
}

fn taken(request: &proto::RecordEventRequest, scope: &Scope, draft: EventDraft) {
    let said = request.event.clone().unwrap_or_default();
    given(&request.event_id, draft.id, draft.id_origin);
    assert!(draft.id.millis() <= fresh().millis() + MAX_AHEAD_MILLIS);
    if let Some(time) = said.event_time {
        assert_eq!(draft.id.millis(), time.seconds * 1000 + i64::from(time.nanos) / 1_000_000);
    }
    content(&draft.content);
    let event = sealed(scope, &draft);
    let told = viewed(&event, |view| {
        assert_eq!(view.to_event().expect("it is JSON of ours"), event);
        export::laws::row(view, &event);
        shown(view)
    });
    assert_eq!((&told.message, &told.attributes, &told.changes), (&said.message, &said.attributes, &said.changes));
    once_more(scope, &draft, proto::Event { event_time: said.event_time, ..told });
}

/// The event as a list shows it, which is no longer than a page takes it to be.
fn shown(view: &EventView<'_>) -> proto::Event {
    let bytes = encode::event(view, &NoteRules::default()).expect("its columns are JSON of ours");
    assert!(bytes.len() <= view.encoded_bound(), "a page would be larger than thought");
    let event = proto::Event::decode(&*bytes).expect("an event");
    assert_eq!(event.encoded_len(), bytes.len(), "it has fields that the contract does not know");
    event
}

/// What was told can be recorded again and gives the same event, so that a retry of it is known for one.
fn once_more(scope: &Scope, draft: &EventDraft, told: proto::Event) {
    let request =
        proto::RecordEventRequest { parent: scope.to_string(), event: Some(told), event_id: draft.id.to_string() };
    let bytes = request.encode_to_vec();
    let request = proto::RecordEventRequest::decode(&*bytes).expect("it has just been encoded");
    let again = Decoder::new(&Limits::default()).record(request, fresh()).expect("it was taken once");
    assert_eq!((again.id, again.action, &again.content), (draft.id, draft.action, &draft.content));
    assert!(again.tells(&draft.content));
}

/// Everything that the store is given is within its limits.
fn content(content: &Content) {
    let limits = Limits::default();
    let (id, name) = (TextRule::required(limits.id_bytes), TextRule::optional(limits.name_bytes));
    text(&content.resource.kind, TextRule::required(limits.resource_type_bytes));
    assert!(!content.resource.kind.starts_with("audit_"));
    text(&content.resource.id, id);
    text(&content.resource.name, name);
    text(&content.actor.id, TextRule { required: content.actor.kind != ActorType::System, ..id });
    text(&content.actor.name, name);
    text(&content.message, TextRule::optional(limits.message_bytes));
    assert!(content.changes.len() <= limits.changes && content.attributes.len() <= limits.attributes);
    for change in &content.changes {
        text(&change.field, TextRule { required: true, ..name });
        for value in change.old_value.iter().chain(&change.new_value) {
            text(value, TextRule::optional(limits.change_value_bytes));
        }
    }
    for (key, value) in &content.attributes {
        text(key, TextRule::required(limits.attribute_key_bytes));
        text(value, TextRule::required(limits.attribute_value_bytes));
    }
    if let Some(context) = &content.context {
        assert!(
            [&context.source_ip, &context.user_agent, &context.request_id, &context.trace_id]
                .iter()
                .any(|text| !text.is_empty())
        );
        for value in [&context.source_ip, &context.request_id, &context.trace_id] {
            text(value, TextRule::optional(limits.id_bytes));
        }
        text(&context.user_agent, name);
    }
}

/// The draft as the store would give it back.
fn sealed(scope: &Scope, draft: &EventDraft) -> Event {
    let recorder = Actor { kind: ActorType::Service, id: "svc".to_owned(), name: String::new() };
    let entry = Entry::new(scope.clone(), recorder.clone(), Draft::Event(draft.clone()), [0; 16]);
    assert!(entry.encoded_bound() >= draft.content.message.len());
    Event {
        name: EventName { scope: scope.clone(), id: draft.id },
        action: draft.action,
        resource_type: draft.content.resource.kind.clone(),
        sealed: Sealed { record_time: fresh().time(), leaf_index: 0, body_commitment: [0; 32] },
        body: Ok(EventBody { content: draft.content.clone(), recorder, salt: [0; 16] }),
        notes: Vec::new(),
    }
}
