//! Building an event.

use prost::Message as _;

use crate::{
    model::{ActionType, ActorType, Clock as _, SystemClock, TimeId, Timestamp, wire},
    proto::auditlog::v1 as proto,
};

/// An event to record. It has its id from the moment it is built, so sending it twice records it once; build it once
/// and keep it until it is recorded.
///
/// Nothing is checked here: the service checks, and names every field that breaks a rule
/// ([`ClientError::violations`](super::ClientError::violations)). An action, a resource and an actor are required.
///
/// ```
/// use auditlog::client::NewEvent;
///
/// let event = NewEvent::create("cluster", "c-1").actor_user("ann").attribute("region", "eu-1");
/// assert_eq!(event.id(), event.clone().id());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    id: TimeId,
    project: Option<String>,
    event: proto::Event,
}

/// A time before 1970 or after the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's time must be in the years 1970 to 9999")]
pub struct TimeOutOfRange;

/// Not a UUID of version 7 in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id {0}")]
pub struct InvalidEventId(String);

impl NewEvent {
    /// Something was created, just now.
    pub fn create(resource_type: impl Into<String>, resource_id: impl Into<String>) -> Self {
        Self::new(ActionType::Create, resource_type, resource_id)
    }

    /// Something was changed, just now.
    pub fn update(resource_type: impl Into<String>, resource_id: impl Into<String>) -> Self {
        Self::new(ActionType::Update, resource_type, resource_id)
    }

    /// Something was deleted, just now.
    pub fn delete(resource_type: impl Into<String>, resource_id: impl Into<String>) -> Self {
        Self::new(ActionType::Delete, resource_type, resource_id)
    }

    /// Something was done, just now. A type has at most 128 bytes, an id 256.
    pub fn new(action: ActionType, resource_type: impl Into<String>, resource_id: impl Into<String>) -> Self {
        let resource = proto::Resource { r#type: resource_type.into(), id: resource_id.into(), name: String::new() };
        let event = proto::Event {
            action_type: proto::ActionType::from(action).into(),
            resource: Some(resource),
            ..proto::Event::default()
        };
        Self { id: id_now(), project: None, event }
    }

    /// It happened at `time`, of which milliseconds are kept. The event gets another id, for the id holds the time.
    ///
    /// # Errors
    /// If the time is not in the years 1970 to 9999.
    pub fn at(self, time: impl Into<Timestamp>) -> Result<Self, TimeOutOfRange> {
        Ok(Self { id: id_at(time.into()).ok_or(TimeOutOfRange)?, ..self })
    }

    /// It happened at `time`, and its id has `bits` instead of random ones (74 of the 80 are used). Take the bits from a
    /// hash of what identifies the event at its source, and importing it twice records it once.
    ///
    /// # Errors
    /// If the time is not in the years 1970 to 9999.
    pub fn at_with_bits(self, time: impl Into<Timestamp>, bits: [u8; 10]) -> Result<Self, TimeOutOfRange> {
        Ok(Self { id: TimeId::at(time.into(), bits).ok_or(TimeOutOfRange)?, ..self })
    }

    /// Takes the id, and with it the time, of an event that was built before: see [`Self::id`].
    ///
    /// # Errors
    /// If it is no UUID of version 7 (RFC 9562) of 36 lower-case characters.
    pub fn with_id(self, id: &str) -> Result<Self, InvalidEventId> {
        Ok(Self { id: TimeId::parse(id).map_err(|error| InvalidEventId(error.to_string()))?, ..self })
    }

    /// The event's id: a UUID of version 7, 36 characters in lower case.
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// When it happened, to the millisecond.
    pub fn time(&self) -> Timestamp {
        self.id.time()
    }

    /// It belongs to this project of the tenant that it is recorded at. So one batch can hold events of many projects.
    pub fn in_project(self, project_id: impl Into<String>) -> Self {
        Self { project: Some(project_id.into()), ..self }
    }

    /// What people call the resource, at the time of the event; at most 512 bytes.
    pub fn resource_name(mut self, name: impl Into<String>) -> Self {
        self.event.resource.get_or_insert_default().name = name.into();
        self
    }

    /// A person did it; an id has at most 256 bytes.
    pub fn actor_user(self, id: impl Into<String>) -> Self {
        self.actor(ActorType::User, id)
    }

    /// A service did it, on its own behalf; an id has at most 256 bytes.
    pub fn actor_service(self, id: impl Into<String>) -> Self {
        self.actor(ActorType::Service, id)
    }

    /// The platform itself did it.
    pub fn actor_system(self) -> Self {
        self.actor(ActorType::System, "")
    }

    /// Who did it. Only the system's id may be empty.
    pub fn actor(mut self, kind: ActorType, id: impl Into<String>) -> Self {
        let actor = self.event.actor.get_or_insert_default();
        actor.r#type = proto::ActorType::from(kind).into();
        actor.id = id.into();
        self
    }

    /// What people call the actor, at the time of the event; at most 512 bytes.
    pub fn actor_name(mut self, name: impl Into<String>) -> Self {
        self.event.actor.get_or_insert_default().name = name.into();
        self
    }

    /// One sentence for people, at most 4096 bytes.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.event.message = message.into();
        self
    }

    /// A field went from `old` to `new`. An event has at most 100 changes, with values of at most 8192 bytes. Leave
    /// secrets out.
    pub fn change(self, field: impl Into<String>, old: impl Into<String>, new: impl Into<String>) -> Self {
        self.push_change(field.into(), Some(old.into()), Some(new.into()))
    }

    /// A field that was not there before, or whose former value is not known, is now `new`.
    pub fn set(self, field: impl Into<String>, new: impl Into<String>) -> Self {
        self.push_change(field.into(), None, Some(new.into()))
    }

    /// A field that was `old` is gone, or its new value is not known.
    pub fn unset(self, field: impl Into<String>, old: impl Into<String>) -> Self {
        self.push_change(field.into(), Some(old.into()), None)
    }

    fn push_change(mut self, field: String, old_value: Option<String>, new_value: Option<String>) -> Self {
        self.event.changes.push(proto::FieldChange { field, old_value, new_value });
        self
    }

    /// Anything else, by a key of 1 to 128 bytes; at most 64 of them, with values of 1 to 1024 bytes.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.event.attributes.insert(key.into(), value.into());
        self
    }

    /// The address that the request came from; at most 256 bytes.
    pub fn source_ip(mut self, source_ip: impl Into<String>) -> Self {
        self.context().source_ip = source_ip.into();
        self
    }

    /// The program that sent the request; at most 512 bytes.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.context().user_agent = user_agent.into();
        self
    }

    /// The request's id; at most 256 bytes.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.context().request_id = request_id.into();
        self
    }

    /// The id of the trace that the request belongs to; at most 256 bytes.
    pub fn trace_id(mut self, trace_id: impl Into<String>) -> Self {
        self.context().trace_id = trace_id.into();
        self
    }

    fn context(&mut self) -> &mut proto::RequestContext {
        self.event.context.get_or_insert_default()
    }

    /// The request that records it at `parent`, a tenant if the event names its project.
    pub(super) fn request(&self, parent: &str) -> proto::RecordEventRequest {
        let parent = self.project.as_ref().map_or(parent.to_owned(), |project| format!("{parent}/projects/{project}"));
        self.to_request(parent)
    }

    /// The same inside a batch at `parent`, which need not say the parent again.
    pub(super) fn batch_item(&self, parent: &str) -> proto::RecordEventRequest {
        if self.project.is_some() { self.request(parent) } else { self.to_request(String::new()) }
    }

    /// No less than what the event adds to an encoded batch at `parent`.
    pub(super) fn max_batch_len(&self, parent: &str) -> usize {
        const IDS_TIME_AND_FRAMING: usize = 36 + 16 + 5 * 6;
        let project = self.project.as_ref().map_or(0, |project| parent.len() + "/projects/".len() + project.len());
        self.event.encoded_len() + project + IDS_TIME_AND_FRAMING
    }

    fn to_request(&self, parent: String) -> proto::RecordEventRequest {
        let event = proto::Event { event_time: Some(wire::timestamp(self.id.time())), ..self.event.clone() };
        proto::RecordEventRequest { parent, event: Some(event), event_id: self.id() }
    }
}

/// A fresh id for now; on a machine whose clock is outside the years 1970 to 9999, for 1970.
fn id_now() -> TimeId {
    id_at(SystemClock.now()).or_else(|| id_at(Timestamp::UNIX_EPOCH)).expect("1970 is a time that an id can hold")
}

/// A fresh id. The microseconds lead its random part (RFC 9562, section 6.2, method 3), so that events built one after
/// the other keep their order within a millisecond.
fn id_at(time: Timestamp) -> Option<TimeId> {
    let mut bits = [0; 10];
    getrandom::fill(&mut bits).expect("the system gives random bytes: without them no hash map could be made either");
    let fraction = (time.timestamp_subsec_micros() % 1000) * 4096 / 1000;
    let [.., high, low] = fraction.to_be_bytes();
    (bits[0], bits[1]) = (high, low);
    TimeId::at(time, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_keep_the_order_of_their_microseconds() {
        let at = |micros: i64| Timestamp::from_timestamp_micros(1_700_000_000_123_000 + micros).unwrap();
        let ids: Vec<TimeId> = (0..2000).map(|micros| id_at(at(micros)).unwrap()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].time(), at(0));
        assert_ne!(id_at(at(0)), id_at(at(0)));
    }

    #[test]
    fn the_time_and_the_id_are_one() {
        let event = NewEvent::create("t", "i");
        let time = Timestamp::from_timestamp_millis(1_700_000_000_123).unwrap();
        let dated = event.clone().at(time).unwrap();
        assert_eq!(dated.time(), time);
        assert_ne!(dated.id(), event.id());
        assert_eq!(event.clone().with_id(&dated.id()).unwrap(), dated);
        let request = dated.request("tenants/a");
        assert_eq!(request.event.unwrap().event_time, Some(wire::timestamp(time)));
        assert_eq!(event.clone().at_with_bits(time, [7; 10]).unwrap().id(), "018bcfe5-687b-7707-8707-070707070707");
        assert!(event.clone().at(Timestamp::MIN_UTC).is_err());
        assert!(event.clone().at(Timestamp::MAX_UTC).is_err());
        assert!(event.with_id("a092fecb-2cb1-4c68-809d-1edf688badef").is_err());
    }

    #[test]
    fn says_only_what_it_was_told() {
        let event = NewEvent::delete("t", "i");
        assert_eq!(event.request("tenants/a").event.unwrap().actor, None);
        let event = event.actor_system().set("f", "").unset("g", "o").change("h", "", "n").in_project("p");
        let request = event.batch_item("tenants/a");
        assert_eq!(request.parent, "tenants/a/projects/p");
        let told = request.event.unwrap();
        assert_eq!(told.context, None);
        let values: Vec<_> = told.changes.iter().map(|c| (c.old_value.as_deref(), c.new_value.as_deref())).collect();
        assert_eq!(values, [(None, Some("")), (Some("o"), None), (Some(""), Some("n"))]);
    }
}
