//! What an event about a deed says.

use std::{collections::BTreeMap, sync::OnceLock};

use crate::{
    auth::{Denied, Permit, Record, authorize::Recorded},
    ingest::IngestError,
    model::{
        ActionType, Actor, Clock, Content, EventDraft, EventId, IdOrigin, RequestContext, Resource, TimeId, Timestamp,
        TraceIdOrigin,
    },
};

use super::Cause;

/// The resource type of denials.
const DENIAL: &str = "audit_denial";
/// The resource type of reads.
const READ: &str = "audit_read";

/// What was done, by whom, and where that is recorded.
#[derive(Clone, Debug)]
pub(super) struct Story {
    permit: Permit<Record>,
    kind: &'static str,
    actor: Actor,
    method: String,
    scope: String,
    /// What was missing, if it was denied.
    permission: Option<&'static str>,
}

/// When a deed was done, and in which call.
#[derive(Clone, Debug)]
pub(super) struct First {
    time: Timestamp,
    request_id: String,
}

/// How many deeds one event stands for, and the first of them.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) first: First,
    pub(super) count: u64,
}

/// What one event tells.
#[derive(Clone, Debug)]
pub(super) struct Told {
    story: Story,
    pub(super) sum: Sum,
    /// It stays the same if telling has to be repeated, so that nothing is told twice.
    id: OnceLock<EventId>,
}

impl Story {
    pub(super) fn of_denial(denied: &Denied, cause: Cause<'_>) -> Self {
        Self {
            permit: denied.to_record_itself(),
            kind: DENIAL,
            actor: denied.principal().clone(),
            method: cause.method.to_owned(),
            scope: denied.scope.to_string(),
            permission: Some(denied.permission),
        }
    }

    pub(super) fn of_read<A: Recorded>(permit: &Permit<A>, cause: Cause<'_>) -> Self {
        Self {
            permit: permit.to_record_itself(),
            kind: READ,
            actor: permit.principal().clone(),
            method: cause.method.to_owned(),
            scope: permit.scope().to_string(),
            permission: None,
        }
    }

    fn short_method(&self) -> &str {
        self.method.rsplit('/').next().unwrap_or(&self.method)
    }

    fn message(&self) -> String {
        let (who, method, scope) = (&self.actor.id, self.short_method(), &self.scope);
        match self.permission {
            Some(permission) => format!("{who} was denied {method} at {scope}: {permission} is missing"),
            None => format!("{who} read {scope} by {method}"),
        }
    }

    fn attributes(&self, count: u64, since: Timestamp) -> BTreeMap<String, String> {
        let since = since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let told = [
            ("method", self.method.clone()),
            ("scope", self.scope.clone()),
            ("count", count.to_string()),
            ("first_time", since),
        ];
        let permission = self.permission.map(|permission| ("permission", permission.to_owned()));
        told.into_iter().chain(permission).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl First {
    pub(super) fn of(cause: Cause<'_>, time: Timestamp) -> Self {
        Self { time, request_id: cause.request_id.to_owned() }
    }
}

impl Told {
    pub(super) fn new(story: Story, sum: Sum) -> Self {
        Self { story, sum, id: OnceLock::new() }
    }

    pub(super) fn message(&self) -> String {
        self.story.message()
    }

    pub(super) fn tenant(&self) -> &str {
        self.story.permit.scope().tenant()
    }

    /// The event, and the right to record it.
    pub(super) fn event(&self, clock: &dyn Clock) -> Result<(Permit<Record>, EventDraft), IngestError> {
        let id = self.id(clock)?;
        let Self { story, sum: Sum { first, count }, .. } = self;
        let name = story.short_method().to_owned();
        let content = Content {
            resource: Resource { kind: story.kind.to_owned(), id: id.to_string(), name },
            actor: story.actor.clone(),
            message: story.message(),
            changes: Vec::new(),
            context: Some(RequestContext { request_id: first.request_id.clone(), ..RequestContext::default() }),
            attributes: story.attributes(*count, first.time),
        };
        let (action, trace_id_origin) = (ActionType::Create, TraceIdOrigin::Client);
        let draft = EventDraft { id, id_origin: IdOrigin::Client, action, content, trace_id_origin };
        Ok((story.permit.clone(), draft))
    }

    fn id(&self, clock: &dyn Clock) -> Result<EventId, IngestError> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = TimeId::random(clock.now()).map_err(|error| IngestError::Internal(error.to_string()))?;
        Ok(*self.id.get_or_init(|| id))
    }
}
