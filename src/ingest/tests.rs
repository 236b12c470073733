//! The append path against a log that fails at every step, in both ways a step can fail: *not done*, and *done with the
//! reply lost*. Beneath is the real store.

mod apart;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rstest::rstest;

use crate::{
    auth::{Authorizer, Grant, Permit, Policy, Principal, Record},
    model::{
        ActionType, Actor, ActorType, Clock as _, Content, Entry, Event, EventDraft, EventFilter, IdOrigin, NoteRules,
        Order, PageQuery, Rejection, Resource, Scope, SystemClock, TimeId, TraceIdOrigin,
    },
    store::{Appended, EventPage, PageBounds, Store, StoreError, StoreSettings, Writer},
};

use super::{Hung, Ingest, IngestError, IngestSettings, commit::Log};

/// Far longer than anything here takes.
const EVER: Duration = Duration::from_secs(300);

/// What happens to one call of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It fails, and nothing is done.
    Failed,
    /// Nothing is done, and nobody can tell.
    LostBeforeCommit,
    /// It is done, and the reply is lost.
    LostAfterCommit,
    /// The store refuses what it is given.
    Refused,
    /// No waiting helps.
    Unusable,
    /// The log of `a` is found to have gone back.
    WentBack,
}

/// The real writer behind a wire that fails as told.
struct Faulty {
    writer: Writer,
    appends: VecDeque<Fault>,
    reconnects: VecDeque<Fault>,
    /// Who holds which logs, each time that is asked.
    held: VecDeque<BTreeMap<String, String>>,
}

impl Faulty {
    fn new(writer: Writer, appends: &[Fault]) -> Self {
        Self { writer, appends: appends.to_vec().into(), reconnects: VecDeque::new(), held: VecDeque::new() }
    }
}

impl Log for Faulty {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        match self.appends.pop_front().unwrap_or(Fault::None) {
            Fault::None => self.writer.append(batch),
            Fault::Failed => Err(StoreError::Unavailable("cut".to_owned())),
            Fault::LostBeforeCommit => Err(StoreError::OutcomeUnknown("cut".to_owned())),
            Fault::LostAfterCommit => {
                self.writer.append(batch)?;
                Err(StoreError::OutcomeUnknown("cut".to_owned()))
            }
            Fault::Refused => Err(StoreError::Refused("no such row".to_owned())),
            Fault::Unusable => Err(StoreError::Unusable("of no use".to_owned())),
            Fault::WentBack => Err(StoreError::RolledBack { tenant: "a".to_owned(), what: "it is gone".to_owned() }),
        }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        match self.reconnects.pop_front().unwrap_or(Fault::None) {
            Fault::None => self.writer.reconnect(),
            _ => Err(StoreError::Unavailable("cut".to_owned())),
        }
    }

    fn answers(&mut self) -> bool {
        self.writer.answers()
    }

    fn held(&mut self, _: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(self.held.pop_front().unwrap_or_default())
    }
}

struct Bench {
    store: Store,
    rules: Arc<NoteRules>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let settings = StoreSettings {
            url,
            pool_size: 2,
            timeout: Duration::from_secs(5),
            start_wait: Duration::ZERO,
            migrate: true,
        };
        let rules = Arc::new(NoteRules { resource_types: ["clusterprofile".to_owned()].into(), max_notes: 2 });
        Self { store: Store::open(&settings, SystemClock.now()).unwrap(), rules, _folder: folder }
    }

    fn writer(&self) -> Writer {
        let clock: Arc<dyn crate::model::Clock> = Arc::new(SystemClock);
        self.store.writers(1, &clock, &self.rules).unwrap().remove(0)
    }

    fn ingest(&self, appends: &[Fault], reconnects: &[Fault]) -> (Ingest, super::Workers) {
        let log = Faulty { reconnects: reconnects.to_vec().into(), ..Faulty::new(self.writer(), appends) };
        Ingest::start([log], IngestSettings { queue_events: 10, batch_events: 4, batch_bytes: 1 << 20, patience: EVER })
            .unwrap()
    }

    async fn stored(&self) -> Vec<Event> {
        let (scope, filter) = (Scope::new("a", None).unwrap(), EventFilter::default());
        let query = PageQuery { scope, filter, order: Order::Log, after: None, log_size: None };
        let bounds = PageBounds { rows: 100, bytes: 1 << 20, inspected: 100 };
        let events = |page: EventPage| page.events.iter().map(|event| Ok(event.view()?.to_event()?)).collect();
        self.store.page(query, bounds, events).await.unwrap()
    }

    /// No hole, no repeat, and the head says how many there are.
    async fn assert_gapless(&self, count: i64) {
        let leaves: Vec<i64> = self.stored().await.iter().map(|event| event.sealed.leaf_index).collect();
        assert_eq!(leaves, (0..count).collect::<Vec<_>>());
        assert_eq!(self.store.log_size("a").await.unwrap(), count);
    }
}

fn permit() -> Permit<Record> {
    permit_at("a")
}

fn permit_at(tenant: &str) -> Permit<Record> {
    let actor = Actor { kind: ActorType::Service, id: "svc".to_owned(), name: String::new() };
    let permissions = vec![Grant::parse("audit.create@*").unwrap()];
    let principal = Principal { actor, roles: Vec::new(), permissions };
    let authorizer = Authorizer::new(Policy::new(&Default::default()).unwrap());
    authorizer.record(&principal, &Scope::new(tenant, None).unwrap()).unwrap()
}

fn draft(n: u8, id_origin: IdOrigin) -> EventDraft {
    let time = crate::model::Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap();
    let content = Content {
        resource: Resource { kind: "cluster".to_owned(), id: n.to_string(), name: String::new() },
        actor: Actor { kind: ActorType::User, id: "ann".to_owned(), name: String::new() },
        message: String::new(),
        changes: Vec::new(),
        context: None,
        attributes: Default::default(),
    };
    EventDraft {
        id: TimeId::at(time, [n; 10]).unwrap(),
        id_origin,
        action: ActionType::Create,
        content,
        trace_id_origin: TraceIdOrigin::Client,
    }
}

/// What the caller is told, and what a retry with the same id then gives.
#[rstest]
#[case::nothing_fails(&[], &[], true)]
#[case::failed_once(&[Fault::Failed], &[], true)]
#[case::failed_twice(&[Fault::Failed, Fault::Failed], &[], false)]
#[case::lost_before_commit(&[Fault::LostBeforeCommit], &[], true)]
#[case::lost_after_commit(&[Fault::LostAfterCommit], &[], true)]
#[case::lost_after_commit_and_no_connection(&[Fault::LostAfterCommit], &[Fault::Failed], false)]
#[case::lost_before_commit_and_no_connection(&[Fault::LostBeforeCommit], &[Fault::Failed], false)]
#[case::lost_after_commit_then_failed(&[Fault::LostAfterCommit, Fault::Failed], &[], false)]
#[case::lost_after_commit_then_refused(&[Fault::LostAfterCommit, Fault::Refused], &[], false)]
#[case::lost_before_commit_then_unusable(&[Fault::LostBeforeCommit, Fault::Unusable], &[], false)]
#[case::lost_twice(&[Fault::LostBeforeCommit, Fault::LostAfterCommit], &[], false)]
#[tokio::test]
async fn answers_truly_and_never_stores_twice(
    #[case] appends: &[Fault],
    #[case] reconnects: &[Fault],
    #[case] acknowledged: bool,
) {
    let bench = Bench::new();
    let (ingest, _worker) = bench.ingest(appends, reconnects);
    let first = ingest.record(vec![(permit(), draft(1, IdOrigin::Client))]).await;
    assert_eq!(first.is_ok(), acknowledged, "{first:?}");
    if let Err(error) = &first {
        let unknown = appends.iter().any(|fault| matches!(fault, Fault::LostBeforeCommit | Fault::LostAfterCommit));
        assert_eq!(matches!(error, IngestError::OutcomeUnknown { retry_safe: true }), unknown, "{error:?}");
    }
    let retried = ingest.record(vec![(permit(), draft(1, IdOrigin::Client))]).await.unwrap();
    if let Ok(first) = first {
        assert_eq!(first, retried);
    }
    bench.assert_gapless(1).await;
}

/// A server that took over without the last commits cuts the connections, too.
#[tokio::test]
async fn a_log_that_went_back_is_told_though_the_connection_broke() {
    let bench = Bench::new();
    let (ingest, _worker) = bench.ingest(&[Fault::LostBeforeCommit, Fault::WentBack], &[]);
    let recorded = ingest.record(vec![(permit(), draft(1, IdOrigin::Client))]).await;
    assert_eq!(recorded, Err(IngestError::RolledBack { tenant: "a".to_owned() }));
}

#[tokio::test]
async fn a_retry_is_not_called_safe_when_the_server_made_the_id() {
    let bench = Bench::new();
    let (ingest, _worker) = bench.ingest(&[Fault::LostBeforeCommit, Fault::Failed], &[]);
    let work = vec![(permit(), draft(1, IdOrigin::Client)), (permit(), draft(2, IdOrigin::Server))];
    assert_eq!(ingest.record(work).await, Err(IngestError::OutcomeUnknown { retry_safe: false }));
}

#[tokio::test]
async fn one_caller_that_is_rejected_leaves_no_trace_and_no_hole_among_its_neighbours() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    let entry = |draft: EventDraft| {
        let (scope, recorder) = (permit().scope().clone(), permit().principal().clone());
        Entry::new(scope, recorder, crate::model::Draft::Event(draft), [0; 16])
    };
    let mut differing = draft(1, IdOrigin::Client);
    differing.action = ActionType::Delete;
    let first = [entry(draft(1, IdOrigin::Client))];
    let bad = [entry(draft(2, IdOrigin::Client)), entry(draft(3, IdOrigin::Client)), entry(differing)];
    let last = [entry(draft(3, IdOrigin::Client)), entry(draft(3, IdOrigin::Client))];
    let Appended { outcomes, stored } = writer.append(&[&first, &bad, &last]).unwrap();
    assert_eq!(stored, 2);
    assert!(outcomes[0].is_ok());
    let rejected = Rejection::EventDiffers { index: 2, id: draft(1, IdOrigin::Client).id };
    assert_eq!(outcomes[1], Err(rejected));
    let repeated = outcomes[2].as_ref().unwrap();
    assert_eq!(repeated[0], repeated[1]);
    bench.assert_gapless(2).await;
}

/// A log that waits at a gate, and refuses the ids it is told to.
struct Gated {
    writer: Writer,
    gate: std::sync::mpsc::Receiver<()>,
    refused: TimeId,
    /// What it says then.
    refusal: fn() -> StoreError,
    /// Whether what is done is not told before somebody comes with a new connection.
    loses_replies: bool,
    is_new: bool,
}

fn gated(writer: Writer, gate: std::sync::mpsc::Receiver<()>) -> Gated {
    let refused = draft(9, IdOrigin::Client).id;
    Gated { writer, gate, refused, refusal: no_such_row, loses_replies: false, is_new: false }
}

fn no_such_row() -> StoreError {
    StoreError::Refused("no such row here".to_owned())
}

/// What is said of all that has no name of its own.
fn no_such_key() -> StoreError {
    StoreError::Unavailable("too long for an index".to_owned())
}

impl Log for Gated {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        // Closed once the test lets everything through.
        let _ = self.gate.recv();
        let is_refused =
            |entry: &Entry| matches!(&entry.draft, crate::model::Draft::Event(draft) if draft.id == self.refused);
        if batch.iter().copied().flatten().any(is_refused) {
            return Err((self.refusal)());
        }
        let appended = self.writer.append(batch)?;
        match self.loses_replies && !std::mem::take(&mut self.is_new) {
            true => Err(StoreError::OutcomeUnknown("cut".to_owned())),
            false => Ok(appended),
        }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.is_new = true;
        self.writer.reconnect()
    }

    fn answers(&mut self) -> bool {
        self.writer.answers()
    }

    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        self.writer.held(tenants)
    }
}

#[rstest]
#[tokio::test]
async fn a_full_queue_says_so_a_refused_row_sinks_alone_and_closing_answers_all(
    #[values(no_such_row, no_such_key)] refusal: fn() -> StoreError,
    #[values(false, true)] loses_replies: bool,
) {
    let bench = Bench::new();
    let (open, gate) = std::sync::mpsc::channel();
    let writer = bench.writer();
    let refused = draft(3, IdOrigin::Client).id;
    let log = Gated { refused, refusal, loses_replies, ..gated(writer, gate) };
    let (ingest, worker) =
        Ingest::start([log], IngestSettings { queue_events: 6, batch_events: 4, batch_bytes: 1 << 20, patience: EVER })
            .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..5 {
        // Polled once, a call is in the queue: `record` does not wait before that.
        let mut call = Box::pin({
            let ingest = ingest.clone();
            async move { (n, ingest.record(vec![(permit(), draft(n, IdOrigin::Client))]).await) }
        });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.spawn(call);
    }
    assert_eq!(ingest.record(vec![(permit(), draft(9, IdOrigin::Client))]).await, Err(IngestError::QueueFull));
    ingest.close();
    assert_eq!(ingest.record(vec![(permit(), draft(9, IdOrigin::Client))]).await, Err(IngestError::ShuttingDown));
    drop(open);
    while let Some(call) = calls.join_next().await {
        let (n, answer) = call.unwrap();
        let is_refused = matches!(answer, Err(IngestError::Internal(_) | IngestError::Unavailable(_)));
        assert_eq!((is_refused, answer.is_ok()), (n == 3, n != 3), "{n}: {answer:?}");
    }
    worker.join().await.unwrap();
    assert!(!ingest.is_running());
    bench.assert_gapless(4).await;
}

/// A log that does not answer is noticed, and comes back by itself; at the end it is not waited for.
#[tokio::test]
async fn a_worker_that_stands_still_is_told_and_not_waited_for() {
    let bench = Bench::new();
    let (open, gate) = std::sync::mpsc::channel();
    let log = gated(bench.writer(), gate);
    let settings = IngestSettings { queue_events: 6, batch_events: 4, batch_bytes: 1 << 20, patience: Duration::ZERO };
    let (ingest, workers) = Ingest::start([log], settings).unwrap();
    assert!(ingest.is_running());
    for n in 0..2 {
        let sent = ingest.clone();
        let call = tokio::spawn(async move { sent.record(vec![(permit(), draft(n, IdOrigin::Client))]).await });
        until(|| !ingest.is_running()).await;
        assert_eq!(ingest.waiting(), 1);
        open.send(()).unwrap();
        call.await.unwrap().unwrap();
        until(|| ingest.is_running()).await;
    }
    let sent = ingest.clone();
    let unanswered = tokio::spawn(async move { sent.record(vec![(permit(), draft(2, IdOrigin::Client))]).await });
    until(|| !ingest.is_running()).await;
    ingest.close();
    assert_eq!(workers.join().await, Err(Hung(1)));
    assert_eq!(ingest.waiting(), 1);
    drop(open);
    unanswered.await.unwrap().unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(EVER, waiting).await.unwrap();
}

/// Whoever has an answer has room again for the next call.
#[tokio::test]
async fn a_caller_who_waits_for_each_answer_never_fills_the_queue() {
    let bench = Bench::new();
    let settings = IngestSettings { queue_events: 1, batch_events: 1, batch_bytes: 1 << 20, patience: EVER };
    let (ingest, worker) = Ingest::start([bench.writer()], settings).unwrap();
    for n in 0..200 {
        ingest.record(vec![(permit(), draft(n, IdOrigin::Client))]).await.unwrap();
    }
    ingest.close();
    worker.join().await.unwrap();
}
