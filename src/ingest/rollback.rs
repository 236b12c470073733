//! Acknowledging that a log went back: the one thing that lets the service record and sign for it again.

use std::collections::BTreeMap;

use crate::{
    model::{
        ActionType, Actor, ActorType, Clock, Content, Draft, Entry, EventDraft, IdOrigin, Rejection, Resource, Scope,
        TimeId, TraceIdOrigin,
    },
    store::{StoreError, Writer},
};

/// The resource type of the event that tells of it.
const RESOURCE_TYPE: &str = "audit_rollback";

/// What an operator says about a log that went back.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// The tenant.
    pub scope: Scope,
    /// Who says it.
    pub by: String,
    /// What has happened.
    pub reason: String,
}

/// Why it was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AcknowledgeError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// There is no id for the event.
    #[error("no id can be made: {0}")]
    Id(&'static str),
}

/// Records the acknowledgement in the log itself, and then begins the log's next epoch, whose number comes back. In that
/// order no epoch begins without its event; when the second step fails, acknowledge once more.
///
/// This takes the right to write to the database, and no other: it is for a process of the operator's own, whose
/// [`Writer`] has seen nothing of the log.
pub fn acknowledge(
    writer: &mut Writer,
    clock: &dyn Clock,
    acknowledgement: &Acknowledgement,
) -> Result<i32, AcknowledgeError> {
    let entry = [entry(clock, acknowledgement)?];
    for outcome in writer.append(&[&entry])? {
        outcome?;
    }
    Ok(writer.begin_epoch(acknowledgement.scope.tenant(), &acknowledgement.by, &acknowledgement.reason)?)
}

fn entry(clock: &dyn Clock, acknowledgement: &Acknowledgement) -> Result<Entry, AcknowledgeError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|_| AcknowledgeError::Id("the system gives no random bits"))?;
    let id = TimeId::at(clock.now(), random).ok_or(AcknowledgeError::Id("the clock stands before 1970"))?;
    let Acknowledgement { scope, by, reason } = acknowledgement;
    let actor = Actor { kind: ActorType::User, id: by.clone(), name: String::new() };
    let content = Content {
        resource: Resource { kind: RESOURCE_TYPE.to_owned(), id: scope.tenant().to_owned(), name: String::new() },
        actor: actor.clone(),
        message: format!("acknowledged that the log went back: {reason}"),
        changes: Vec::new(),
        context: None,
        attributes: BTreeMap::new(),
    };
    let draft = EventDraft {
        id,
        id_origin: IdOrigin::Server,
        action: ActionType::Create,
        content,
        trace_id_origin: TraceIdOrigin::Client,
    };
    Ok(Entry { scope: scope.clone(), recorder: actor, draft: Draft::Event(draft) })
}
