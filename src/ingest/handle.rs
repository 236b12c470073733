//! The services' side of the append path.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use crate::{
    auth::{Annotate, Permit, Record},
    model::{
        Actor, CallerKey, Callers, Draft, Entry, EventDraft, EventReceipt, NoteDraft, NoteReceipt, Receipt, Rejection,
        salt, salts,
    },
};

use super::{
    acceptance::Acceptance,
    batch::{BatchBounds, Message, Queue, Submission},
    commit::{self, Log},
    pulse::{Pulse, Watched},
    room::{Place, Room},
};

/// Why something was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// More is waiting than the queue holds, or than it holds of one caller.
    #[error("the append queue is full")]
    QueueFull,
    /// The service is going down and takes nothing more.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The log does not take it.
    #[error(transparent)]
    Rejected(Rejection),
    /// The store is away; nothing was recorded.
    #[error("{0}")]
    Unavailable(String),
    /// The tenant's log went back behind what was acknowledged; nothing was recorded.
    #[error("the log of tenants/{tenant} went back behind what was seen of it")]
    RolledBack {
        /// Whose log.
        tenant: String,
    },
    /// The store went away in the middle of the commit: it may or may not have been recorded.
    #[error("the store went away during the commit: it may or may not have been recorded")]
    OutcomeUnknown {
        /// Whether sending it again is safe: all ids were the client's own.
        retry_safe: bool,
    },
    /// The store refused what the service had found good.
    #[error("{0}")]
    Internal(String),
}

/// How much may wait, and how much goes into one transaction.
#[derive(Clone, Copy, Debug)]
pub struct IngestSettings {
    /// The most events and notes that wait or are being committed.
    pub queue_events: usize,
    /// The most events and notes of one transaction.
    pub batch_events: usize,
    /// About the most bytes of one transaction.
    pub batch_bytes: usize,
    /// How long one call of the log may take before its worker counts as hung; a batch has a few of them.
    pub patience: Duration,
}

/// Hands drafts to the workers and waits for their receipts. Clones share the queues.
#[derive(Clone)]
pub struct Ingest {
    /// One for each worker. A tenant always goes to the same one, so that no two of them wait for one head.
    queues: Arc<[mpsc::UnboundedSender<Message>]>,
    /// That of each worker.
    pulses: Arc<[Pulse]>,
    acceptance: Acceptance,
    room: Room,
    callers: Callers,
}

/// The threads that append, each with its pulse.
pub struct Workers(Vec<(thread::JoinHandle<()>, Pulse)>);

/// Workers that were not waited for any longer: the store keeps them waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "append workers ({0}) still wait for a database that does not answer, takes nothing or is too slow: what they were given may be stored or \
     not; who got no receipt for it can send it again with the same ids"
)]
pub struct Hung(pub usize);

impl Workers {
    /// Waits until all that was accepted is answered, but not for a worker that hangs, nor for longer than one call of the log may
    /// take: each batch that waits in vain would add to it. Call [`Ingest::close`] first.
    pub async fn join(self) -> Result<(), Hung> {
        let (mut hung, begun) = (0, Instant::now());
        let join = |(worker, pulse): (thread::JoinHandle<()>, _)| (spawn_blocking(|| worker.join()), pulse);
        // All at once: who waits for one must know of the others that they have ended.
        for (mut worker, pulse) in self.0.into_iter().map(join).collect::<Vec<_>>() {
            tokio::select! {
                biased;
                joined = &mut worker => {
                    if !matches!(joined, Ok(Ok(()))) {
                        tracing::error!("an append worker ended in a panic");
                    }
                }
                () = pulse.hung_or_late(begun) => hung += usize::from(!worker.is_finished()),
            }
        }
        if hung == 0 { Ok(()) } else { Err(Hung(hung)) }
    }
}

impl Ingest {
    /// Starts a worker for each of `logs`, of which there is at least one.
    pub fn start(
        logs: impl IntoIterator<Item = impl Log + 'static>,
        settings: IngestSettings,
    ) -> std::io::Result<(Self, Workers)> {
        let bounds = BatchBounds { entries: settings.batch_events, bytes: settings.batch_bytes };
        let (mut queues, mut workers) = (Vec::new(), Vec::new());
        let (callers, acceptance) = (Callers::default(), Acceptance::default());
        for log in logs {
            let (queue, messages) = mpsc::unbounded_channel();
            let queue_end = Queue::new(messages, bounds, callers.clone());
            let (pulse, acceptance) = (Pulse::new(settings.patience), acceptance.clone());
            let log = Watched::new(log, pulse.clone());
            let work = move || commit::run(log, queue_end, acceptance);
            workers.push((thread::Builder::new().name("append".to_owned()).spawn(work)?, pulse));
            queues.push(queue);
        }
        let pulses = workers.iter().map(|(_, pulse)| pulse.clone()).collect();
        let room = Room::new(settings.queue_events);
        Ok((Self { queues: queues.into(), pulses, acceptance, room, callers }, Workers(workers)))
    }

    /// Records events, all or none. The reply follows the commit, in the order of `work`.
    pub async fn record(&self, work: Vec<(Permit<Record>, EventDraft)>) -> Result<Vec<EventReceipt>, IngestError> {
        let Some((first, _)) = work.first() else { return Ok(Vec::new()) };
        let admitted = self.admit(first.principal(), work.len())?;
        let salts = salts(work.len()).map_err(no_salt)?;
        let entries = work.into_iter().zip(salts).map(|((permit, draft), salt)| {
            Entry::new(permit.scope().clone(), permit.principal().clone(), Draft::Event(draft), salt)
        });
        let receipts = self.append(admitted, entries.collect()).await?;
        receipts.into_iter().map(event_receipt).collect()
    }

    /// Adds a note. The reply follows the commit.
    pub async fn annotate(&self, permit: Permit<Annotate>, draft: NoteDraft) -> Result<NoteReceipt, IngestError> {
        let admitted = self.admit(permit.principal(), 1)?;
        let (scope, recorder) = (permit.scope().clone(), permit.principal().clone());
        let entry = Entry::new(scope, recorder, Draft::Note(draft), salt().map_err(no_salt)?);
        let receipts = self.append(admitted, vec![entry]).await?;
        receipts.into_iter().next().ok_or_else(mismatch).and_then(note_receipt)
    }

    /// Takes nothing more; the workers finish what was accepted and end.
    pub fn close(&self) {
        self.room.close();
        for queue in self.queues.iter() {
            // The worker is gone already if this fails.
            let _ = queue.send(Message::Close);
        }
    }

    /// Those who record, for others who serve them.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Whether all workers are there and get on.
    pub fn is_running(&self) -> bool {
        self.queues.iter().all(|queue| !queue.is_closed()) && self.hung() == 0
    }

    /// Whether the store takes nothing: for seconds each batch has failed, and the last did so a moment ago.
    pub fn is_refused(&self) -> bool {
        self.acceptance.is_refused()
    }

    /// How many workers hang in the store.
    pub fn hung(&self) -> usize {
        self.pulses.iter().filter(|pulse| pulse.is_hung()).count()
    }

    /// All entries of a submission are of one tenant.
    fn queue_of(&self, entries: &[Entry]) -> &mpsc::UnboundedSender<Message> {
        let tenant = entries.first().map_or("", |entry| entry.scope.tenant());
        &self.queues[worker_of(tenant, self.queues.len())]
    }

    /// How many events and notes were accepted and are not answered.
    pub fn waiting(&self) -> usize {
        self.room.taken()
    }

    /// How many events and notes the queue would still take.
    pub fn room(&self) -> usize {
        self.room.left()
    }

    /// Takes room for so many entries of a caller. It comes before any work on them, because whoever is refused should cost nothing.
    fn admit(&self, recorder: &Actor, entries: usize) -> Result<(CallerKey, Place), IngestError> {
        let caller = self.callers.key(recorder);
        Ok((caller, self.room.take(caller, entries)?))
    }

    async fn append(
        &self,
        (caller, place): (CallerKey, Place),
        entries: Vec<Entry>,
    ) -> Result<Vec<Receipt>, IngestError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue_of(&entries);
        let submission = Submission::new(caller, entries, reply, place);
        queue.send(Message::Append(submission)).map_err(|_| IngestError::ShuttingDown)?;
        let dropped = |_| IngestError::Internal("the append worker dropped a caller".to_owned());
        let (receipts, _entries) = answer.await.map_err(dropped)?;
        receipts
    }
}

fn no_salt(error: getrandom::Error) -> IngestError {
    IngestError::Unavailable(format!("no random bytes: {error}"))
}

/// Which of `count` workers a tenant goes to.
fn worker_of(tenant: &str, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    tenant.hash(&mut hasher);
    usize::try_from(hasher.finish() % count as u64).unwrap_or(0)
}

fn event_receipt(receipt: Receipt) -> Result<EventReceipt, IngestError> {
    match receipt {
        Receipt::Event(receipt) => Ok(receipt),
        Receipt::Note(_) => Err(mismatch()),
    }
}

fn note_receipt(receipt: Receipt) -> Result<NoteReceipt, IngestError> {
    match receipt {
        Receipt::Note(receipt) => Ok(receipt),
        Receipt::Event(_) => Err(mismatch()),
    }
}

fn mismatch() -> IngestError {
    IngestError::Internal("the receipts do not match the entries".to_owned())
}
