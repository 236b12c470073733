//! The event that a caller asks to record.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{Decoder, Path, Violations};
use crate::{
    model::{
        ActionType, Actor, ActorType, Content, EventDraft, FieldChange, RequestContext, Resource, TextRule,
        TraceIdOrigin, limits::RESERVED_TYPE_PREFIX, time_id::TimeId,
    },
    proto::auditlog::v1 as proto,
};

impl Decoder<'_> {
    /// The draft in a request to record one event. `fresh` is an id of the server's at the present time.
    pub fn record(mut self, request: proto::RecordEventRequest, fresh: TimeId) -> Result<EventDraft, Violations> {
        let draft = self.draft(Path::ROOT, without_output_only(request), fresh);
        self.finish(draft)
    }

    /// The draft in the request at `path`, of which [`without_output_only`] has left what the caller tells.
    pub(super) fn draft(
        &mut self,
        path: Path<'_>,
        request: proto::RecordEventRequest,
        fresh: TimeId,
    ) -> Option<EventDraft> {
        let event_time = request.event.as_ref().and_then(|event| event.event_time.as_ref());
        let identity = self.identity(path, &request.event_id, event_time, fresh);
        let event = self.require(path.field("event"), request.event, "is required");
        let (action, content) = self.event(path.field("event"), event?)?;
        let (id, id_origin) = identity?;
        Some(EventDraft { id, id_origin, action, content, trace_id_origin: TraceIdOrigin::Client })
    }

    fn event(&mut self, path: Path<'_>, event: proto::Event) -> Option<(ActionType, Content)> {
        self.encoded_size(path, event.encoded_len(), self.limits.event_bytes);
        self.text(path.field("message"), &event.message, TextRule::optional(self.limits.message_bytes));
        let action = self.action_type(path.field("action_type"), event.action_type);
        let resource = self.resource(path.field("resource"), event.resource);
        let actor = self.actor(path.field("actor"), event.actor);
        let changes = self.changes(path.field("changes"), event.changes);
        let context = event.context.and_then(|context| self.context(path.field("context"), context));
        let attributes = self.attributes(path.field("attributes"), event.attributes);
        let content =
            Content { resource: resource?, actor: actor?, message: event.message, changes, context, attributes };
        Some((action?, content))
    }

    /// Holds an encoded size against its limit.
    pub(super) fn encoded_size(&mut self, path: Path<'_>, len: usize, max: usize) {
        if len > max {
            self.refuse(path, format_args!("must be at most {max} bytes encoded; it has {len}"));
        }
    }

    pub(super) fn action_type(&mut self, path: Path<'_>, number: i32) -> Option<ActionType> {
        let why = format_args!("must be ACTION_TYPE_CREATE, ACTION_TYPE_UPDATE or ACTION_TYPE_DELETE; it is {number}");
        self.require(path, ActionType::from_number(number), why)
    }

    pub(super) fn actor_type(&mut self, path: Path<'_>, number: i32) -> Option<ActorType> {
        let why = format_args!("must be ACTOR_TYPE_USER, ACTOR_TYPE_SERVICE or ACTOR_TYPE_SYSTEM; it is {number}");
        self.require(path, ActorType::from_number(number), why)
    }

    fn resource(&mut self, path: Path<'_>, resource: Option<proto::Resource>) -> Option<Resource> {
        let proto::Resource { r#type: kind, id, name } = self.require(path, resource, "is required")?;
        self.text(path.field("type"), &kind, TextRule::required(self.limits.resource_type_bytes));
        self.text(path.field("id"), &id, TextRule::required(self.limits.id_bytes));
        self.text(path.field("name"), &name, TextRule::optional(self.limits.name_bytes));
        if kind.starts_with(RESERVED_TYPE_PREFIX) {
            let why = "must not begin with audit_: those types are the service's own";
            self.refuse(path.field("type"), why);
        }
        Some(Resource { kind, id, name })
    }

    fn actor(&mut self, path: Path<'_>, actor: Option<proto::Actor>) -> Option<Actor> {
        let proto::Actor { r#type: number, id, name } = self.require(path, actor, "is required")?;
        let kind = self.actor_type(path.field("type"), number);
        let required = kind != Some(ActorType::System);
        self.text(path.field("id"), &id, TextRule { required, max_bytes: self.limits.id_bytes });
        self.text(path.field("name"), &name, TextRule::optional(self.limits.name_bytes));
        Some(Actor { kind: kind?, id, name })
    }

    fn changes(&mut self, path: Path<'_>, changes: Vec<proto::FieldChange>) -> Vec<FieldChange> {
        self.count(path, changes.len(), self.limits.changes);
        let indexed = changes.into_iter().enumerate();
        indexed.map(|(index, change)| self.change(path.index(index), change)).collect()
    }

    fn change(&mut self, path: Path<'_>, change: proto::FieldChange) -> FieldChange {
        let proto::FieldChange { field, old_value, new_value } = change;
        self.text(path.field("field"), &field, TextRule::required(self.limits.name_bytes));
        for (name, value) in [("old_value", &old_value), ("new_value", &new_value)] {
            let rule = TextRule::optional(self.limits.change_value_bytes);
            self.text(path.field(name), value.as_deref().unwrap_or_default(), rule);
        }
        FieldChange { field, old_value, new_value }
    }

    /// The context; `None` also where all its fields are empty, which means the same.
    fn context(&mut self, path: Path<'_>, context: proto::RequestContext) -> Option<RequestContext> {
        let proto::RequestContext { source_ip, user_agent, request_id, trace_id } = context;
        let context = RequestContext { source_ip, user_agent, request_id, trace_id };
        let (id, name) = (TextRule::optional(self.limits.id_bytes), TextRule::optional(self.limits.name_bytes));
        self.text(path.field("source_ip"), &context.source_ip, id);
        self.text(path.field("user_agent"), &context.user_agent, name);
        self.text(path.field("request_id"), &context.request_id, id);
        self.text(path.field("trace_id"), &context.trace_id, id);
        (context != RequestContext::default()).then_some(context)
    }

    fn attributes(&mut self, path: Path<'_>, attributes: BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.count(path, attributes.len(), self.limits.attributes);
        for (key, value) in &attributes {
            self.attribute(path.key(key), "key", key, self.limits.attribute_key_bytes);
            self.attribute(path.key(key), "value", value, self.limits.attribute_value_bytes);
        }
        attributes
    }

    fn attribute(&mut self, path: Path<'_>, part: &str, text: &str, max_bytes: usize) {
        if let Err(error) = TextRule::required(max_bytes).check(text) {
            self.refuse(path, format_args!("has a {part} that {error}"));
        }
    }

    fn count(&mut self, path: Path<'_>, count: usize, max: usize) {
        if count > max {
            self.refuse(path, format_args!("must have at most {max} entries; it has {count}"));
        }
    }
}

/// What the caller tells. The output-only fields are ignored, so they must not count towards any size either.
pub(super) fn without_output_only(request: proto::RecordEventRequest) -> proto::RecordEventRequest {
    let stripped = |event: proto::Event| {
        let proto::Event { action_type, resource, actor, message, changes, context, attributes, event_time, .. } =
            event;
        proto::Event {
            action_type,
            resource,
            actor,
            message,
            changes,
            context,
            attributes,
            event_time,
            ..proto::Event::default()
        }
    };
    proto::RecordEventRequest { event: request.event.map(stripped), ..request }
}
