//! Acknowledging that a log went back: the one thing that lets the service record and sign for it again.

use std::collections::BTreeMap;

use crate::{
    auth::authorize::the_service,
    model::{
        ActionType, Actor, ActorType, Clock, Content, Draft, Entry, EventDraft, IdOrigin, NoIdError, Rejection,
        Resource, Scope, TimeId, TraceIdOrigin, salt,
    },
    store::{EpochState, StoreError, Writer},
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
    /// Whether to take it of a log that is not there, or that was acknowledged already and has not grown since.
    pub force: bool,
}

/// What an acknowledgement has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// How many leaves the log had before.
    pub size_before: i64,
    /// The number of the epoch that has begun.
    pub epoch: i32,
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
    /// The tenant has no log: its name may be misspelled.
    #[error(
        "tenants/{0} has no log in this database: check the tenant and the database; if the database has lost the whole \
         log, add --force"
    )]
    NoLog(String),
    /// The same was acknowledged before.
    #[error(
        "that the log of tenants/{tenant} went back is acknowledged already: epoch {epoch} began at its {size} leaves, and \
         nothing was recorded since; if it went back once more, add --force"
    )]
    Already {
        /// Whose log.
        tenant: String,
        /// Its epoch.
        epoch: i32,
        /// How many leaves it has.
        size: i64,
    },
    /// The service's own role, say, which can add and read alone.
    #[error(
        "this role may not begin an epoch (UPDATE of tree_heads.epoch, INSERT into log_epochs): run it as the owner of the tables"
    )]
    NotOwner,
    /// There is no id for the event.
    #[error(transparent)]
    Id(#[from] NoIdError),
    /// There is no salt for it.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// Records the acknowledgement in the log itself, and then begins the log's next epoch. In that
/// order no epoch begins without its event; when the second step fails, acknowledge once more.
///
/// This takes the right to write to the database, and no other: it is for a process of the operator's own, whose
/// [`Writer`] has seen nothing of the log.
pub fn acknowledge(
    writer: &mut Writer,
    clock: &dyn Clock,
    acknowledgement: &Acknowledgement,
) -> Result<Acknowledged, AcknowledgeError> {
    let tenant = acknowledgement.scope.tenant();
    // Asked first, because the event could not be taken back.
    if !writer.may_begin_epochs()? {
        return Err(AcknowledgeError::NotOwner);
    }
    let state = writer.epoch_state(tenant)?;
    if !acknowledgement.force {
        require_sense(tenant, state)?;
    }
    let entry = [entry(clock, acknowledgement)?];
    for outcome in writer.append(&[&entry])?.outcomes {
        outcome?;
    }
    let epoch = writer.begin_epoch(tenant, &acknowledgement.by, &acknowledgement.reason)?;
    Ok(Acknowledged { size_before: state.map_or(0, |state| state.size), epoch })
}

/// An epoch cannot be taken back, and each one costs all who verify the log a look: none begins by mistake.
fn require_sense(tenant: &str, state: Option<EpochState>) -> Result<(), AcknowledgeError> {
    match state {
        None => Err(AcknowledgeError::NoLog(tenant.to_owned())),
        Some(EpochState { size, epoch, began_at: Some(began_at) }) if size <= began_at => {
            Err(AcknowledgeError::Already { tenant: tenant.to_owned(), epoch, size })
        }
        Some(_) => Ok(()),
    }
}

fn entry(clock: &dyn Clock, acknowledgement: &Acknowledgement) -> Result<Entry, AcknowledgeError> {
    let id = TimeId::random(clock.now())?;
    let Acknowledgement { scope, by, reason, .. } = acknowledgement;
    let actor = Actor { kind: ActorType::User, id: by.clone(), name: String::new() };
    let content = Content {
        resource: Resource { kind: RESOURCE_TYPE.to_owned(), id: scope.tenant().to_owned(), name: String::new() },
        actor,
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
    // Nobody has authenticated the operator: the name is what they say.
    Ok(Entry::new(scope.clone(), the_service(), Draft::Event(draft), salt()?))
}
