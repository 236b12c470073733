//! Batches: where each event goes, and the events.

use prost::Message as _;

use super::{Decoder, Path, Violations, event::without_output_only};
use crate::{
    model::{EventDraft, Limits, Scope, time_id::TimeId},
    proto::{auditlog::v1 as proto, encoded},
};

// As many as are decoded.
const _: () = assert!(Limits::MOST_BATCH_EVENTS == encoded::MOST.events);

/// The scopes that a batch names.
#[derive(Debug)]
pub struct BatchScopes {
    /// The batch's own, if it has one.
    pub parent: Option<Scope>,
    /// Of each event, in the order of the requests: its own, or the batch's.
    pub events: Vec<Scope>,
}

impl BatchScopes {
    /// What the call is about, for the log: the batch's parent, or else the tenant of its first event.
    pub fn outermost(&self) -> Option<Scope> {
        self.parent.clone().or_else(|| self.events.first().map(Scope::to_tenant))
    }
}

/// The batch itself, unless it was too much to be decoded: then nobody knows whose it is, and so it is refused before rights are
/// looked at.
pub fn counted_batch(
    counted: encoded::BatchRecordEventsRequest,
    limits: &Limits,
) -> Result<proto::BatchRecordEventsRequest, Violations> {
    let encoded::BatchRecordEventsRequest { message, parts } = counted;
    if parts.are_few() {
        return Ok(message);
    }
    let why = match parts.events > encoded::MOST.events {
        true => too_many(parts.events, limits.batch_events, "events"),
        false => too_many(parts.details, encoded::MOST.details, "changes and attributes in all its events"),
    };
    Err(Violations::one(Path::ROOT.field("requests"), why))
}

fn too_many(count: usize, max: usize, what: &str) -> String {
    format!("must have at most {max} {what}; it has {count}: send them in parts")
}

/// Reads all scopes of a batch.
pub fn batch_scopes(request: &proto::BatchRecordEventsRequest) -> Result<BatchScopes, Violations> {
    let mut violations = Violations::default();
    let parent = batch_parent(request, &mut violations);
    let indexed = request.requests.iter().enumerate();
    let events =
        indexed.filter_map(|(index, event)| event_scope(request, index, &event.parent, &parent, &mut violations));
    let events = events.collect();
    violations.or(BatchScopes { parent, events })
}

/// Required only where nothing else says whose batch it is.
fn batch_parent(request: &proto::BatchRecordEventsRequest, violations: &mut Violations) -> Option<Scope> {
    if request.parent.is_empty() && !request.requests.is_empty() {
        return None;
    }
    read_scope(Path::ROOT.field("parent"), &request.parent, violations)
}

fn event_scope(
    request: &proto::BatchRecordEventsRequest,
    index: usize,
    text: &str,
    parent: &Option<Scope>,
    violations: &mut Violations,
) -> Option<Scope> {
    // Where the batch's parent is there and malformed, it has been refused already, once.
    if text.is_empty() && !request.parent.is_empty() {
        return parent.clone();
    }
    read_scope(Path::ROOT.field("requests").index(index).field("parent"), text, violations)
}

fn read_scope(path: Path<'_>, text: &str, violations: &mut Violations) -> Option<Scope> {
    Scope::parse(text).map_err(|error| violations.add(path, error)).ok()
}

impl Decoder<'_> {
    /// The drafts of a batch, in its order. `fresh` has an id of the server's at the present time for each.
    pub fn batch(
        mut self,
        request: proto::BatchRecordEventsRequest,
        scopes: &BatchScopes,
        fresh: Vec<TimeId>,
    ) -> Result<Vec<EventDraft>, Violations> {
        let path = Path::ROOT.field("requests");
        if request.requests.len() > self.limits.batch_events {
            let why = too_many(request.requests.len(), self.limits.batch_events, "events");
            return Err(Violations::one(path, why));
        }
        let requests = request.requests.into_iter().map(without_output_only).collect();
        let request = proto::BatchRecordEventsRequest { requests, ..request };
        self.batch_size(&request);
        self.one_family(path, scopes);
        let indexed = request.requests.into_iter().zip(fresh).enumerate();
        let drafts: Vec<_> =
            indexed.map(|(index, (event, fresh))| self.draft(path.index(index), event, fresh)).collect();
        self.finish(drafts.into_iter().collect())
    }

    fn batch_size(&mut self, request: &proto::BatchRecordEventsRequest) {
        if request.requests.is_empty() {
            let max = self.limits.batch_events;
            self.refuse(Path::ROOT.field("requests"), format_args!("must have 1 to {max} events; it has none"));
        }
        self.encoded_size(Path::ROOT.field("requests"), request.encoded_len(), self.limits.batch_bytes);
    }

    /// Every event inside the batch's parent; without one, all of one tenant: a batch is one transaction on one log.
    fn one_family(&mut self, path: Path<'_>, scopes: &BatchScopes) {
        let Some(family) = scopes.parent.clone().or_else(|| scopes.events.first().map(Scope::to_tenant)) else {
            return;
        };
        let strangers = scopes.events.iter().enumerate().filter(|(_, scope)| !family.contains(scope));
        for (index, _) in strangers {
            let why = format_args!("must be {family} or inside it, like the rest of the batch");
            self.refuse(path.index(index).field("parent"), why);
        }
    }
}
