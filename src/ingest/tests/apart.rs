//! Logs that stand apart from the others of a batch, because another session holds them or they went back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rstest::rstest;

use crate::{
    ingest::{
        Ingest, IngestError, IngestSettings,
        acceptance::Acceptance,
        batch::{BatchBounds, Message, Queue, Submission},
        commit::{self, Log},
        room::Room,
    },
    model::{Callers, Draft, Entry, IdOrigin, Receipt},
    store::{Appended, StoreError, Writer},
};

use super::{Bench, EVER, Fault, Faulty, draft, permit_at, until};

/// A log whose appends wait for a word whether somebody holds what they need, and which tells who does as it is told to.
struct Contended {
    writer: Writer,
    waits_in_vain: std::sync::mpsc::Receiver<bool>,
    held: VecDeque<BTreeMap<String, String>>,
}

impl Log for Contended {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        match self.waits_in_vain.recv() {
            Ok(true) => Err(StoreError::Unavailable("waited for a lock in vain".to_owned())),
            _ => self.writer.append(batch),
        }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn answers(&mut self) -> bool {
        self.writer.answers()
    }

    fn held(&mut self, _: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(self.held.pop_front().unwrap_or_default())
    }
}

/// Two logs are held, then free, and then one of them is in other hands: it does not sink the other one.
#[tokio::test]
async fn a_log_that_goes_into_other_hands_sinks_its_own_callers_alone() {
    let bench = Bench::new();
    let (say, waits_in_vain) = std::sync::mpsc::channel();
    let held = |pairs: &[(&str, &str)]| pairs.iter().map(|(log, by)| ((*log).to_owned(), (*by).to_owned())).collect();
    let held = VecDeque::from([held(&[("a", "1"), ("b", "1")]), held(&[]), held(&[("a", "2")])]);
    let log = Contended { writer: bench.writer(), waits_in_vain, held };
    let settings = IngestSettings { queue_events: 6, batch_events: 4, batch_bytes: 1 << 20, patience: Duration::ZERO };
    let (ingest, workers) = Ingest::start([log], settings).unwrap();
    let record = |tenant: &'static str, n| {
        let ingest = ingest.clone();
        tokio::spawn(async move { ingest.record(vec![(permit_at(tenant), draft(n, IdOrigin::Client))]).await })
    };
    let first = record("a", 0);
    until(|| !ingest.is_running()).await;
    let (of_a, of_b) = (record("a", 1), record("b", 2));
    until(|| ingest.waiting() == 3).await;
    for waits_in_vain in [false, true, true, false] {
        say.send(waits_in_vain).unwrap();
    }
    first.await.unwrap().unwrap();
    let refused = of_a.await.unwrap();
    assert!(matches!(refused, Err(IngestError::Unavailable(_))), "{refused:?}");
    of_b.await.unwrap().unwrap();
    ingest.close();
    // Whether the last call of the log took no time at all is not what this is about.
    let _ = workers.join().await;
    bench.assert_gapless(1).await;
}

/// Somebody's open transaction keeps one log; the store takes all others.
#[rstest]
#[case::held(true)]
#[case::slow(false)]
fn a_log_that_is_held_says_nothing_of_the_store(#[case] is_held: bool) {
    let bench = Bench::new();
    let (say, waits_in_vain) = std::sync::mpsc::channel();
    (0..2).for_each(|_| say.send(true).unwrap());
    let holder = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    let held = if is_held { VecDeque::from([holder.clone(), holder]) } else { VecDeque::new() };
    let log = Contended { writer: bench.writer(), waits_in_vain, held };
    let acceptance = Acceptance::default();
    let answers = append_together(log, &acceptance, &["a"]);
    assert!(matches!(answers[0], Err(IngestError::Unavailable(_))));
    assert_eq!(acceptance.has_failed(), !is_held);
}

/// Appends one event of each tenant, as one batch to begin with, and tells what each caller was answered.
fn append_together(log: impl Log, acceptance: &Acceptance, tenants: &[&str]) -> Vec<Result<Vec<Receipt>, IngestError>> {
    let (callers, room) = (Callers::default(), Room::new(tenants.len()));
    let (queue, messages) = tokio::sync::mpsc::unbounded_channel();
    let send = |(tenant, n): (&&str, u8)| {
        let (permit, (reply, answer)) = (permit_at(tenant), tokio::sync::oneshot::channel());
        let caller = callers.key(permit.principal());
        let draft = Draft::Event(draft(n, IdOrigin::Client));
        let entry = Entry::new(permit.scope().clone(), permit.principal().clone(), draft, [0; 16]);
        let place = room.take(caller, 1).unwrap();
        queue.send(Message::Append(Submission::new(caller, vec![entry], reply, place))).ok().unwrap();
        answer
    };
    let answers: Vec<_> = tenants.iter().zip(0..).map(send).collect();
    queue.send(Message::Close).ok().unwrap();
    let bounds = BatchBounds { entries: 4, bytes: 1 << 20 };
    commit::run(log, Queue::new(messages, bounds, callers), acceptance.clone());
    answers.into_iter().map(|answer| answer.blocking_recv().unwrap().0).collect()
}

/// What the first attempt may have stored of the other logs of its batch stays unknown until an attempt tells.
#[rstest]
#[case::nothing_more_is_heard(&[Fault::Failed, Fault::Failed], false)]
#[case::the_next_attempt_tells(&[], true)]
fn what_may_be_stored_beside_a_log_that_went_back_is_not_called_lost(#[case] then: &[Fault], #[case] is_told: bool) {
    let bench = Bench::new();
    let log = Faulty::new(bench.writer(), &[&[Fault::LostAfterCommit, Fault::WentBack], then].concat());
    let answers = append_together(log, &Acceptance::default(), &["a", "b"]);
    assert_eq!(answers[0], Err(IngestError::RolledBack { tenant: "a".to_owned() }));
    match is_told {
        true => assert_eq!(answers[1].as_ref().unwrap().len(), 1),
        false => assert_eq!(answers[1], Err(IngestError::OutcomeUnknown { retry_safe: true })),
    }
}

/// What the store has no name for, after an attempt of which nobody knows the outcome, sinks its own caller alone, too.
#[rstest]
#[case::without_a_name(Fault::Failed)]
#[case::with_a_name(Fault::Refused)]
fn who_shares_a_batch_of_unknown_outcome_with_a_bad_row_is_told_what_became_of_theirs(#[case] bad: Fault) {
    let bench = Bench::new();
    let log = Faulty::new(bench.writer(), &[Fault::LostBeforeCommit, bad, bad]);
    let answers = append_together(log, &Acceptance::default(), &["a", "b"]);
    assert_eq!(answers[0], Err(IngestError::OutcomeUnknown { retry_safe: true }));
    assert_eq!(answers[1].as_ref().unwrap().len(), 1);
}

/// Of a log that somebody holds nobody finds out what an attempt before has stored.
#[test]
fn who_waits_for_a_log_that_is_held_is_not_told_that_nothing_is_stored_when_that_is_unknown() {
    let bench = Bench::new();
    let appends = [Fault::LostAfterCommit, Fault::Refused, Fault::None, Fault::Failed];
    let holder = BTreeMap::from([("b".to_owned(), "1".to_owned())]);
    let log = Faulty { held: [holder.clone(), holder].into(), ..Faulty::new(bench.writer(), &appends) };
    let answers = append_together(log, &Acceptance::default(), &["a", "b"]);
    assert_eq!(answers[0].as_ref().unwrap().len(), 1);
    assert_eq!(answers[1], Err(IngestError::OutcomeUnknown { retry_safe: true }));
}

/// A log of which one tenant's part went back.
struct RolledBack {
    writer: Writer,
    /// Each append waits for a word, until nobody is there to say one.
    gate: std::sync::mpsc::Receiver<()>,
    appends: Arc<AtomicUsize>,
}

impl Log for RolledBack {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        let _ = self.gate.recv();
        self.appends.fetch_add(1, Ordering::Relaxed);
        match batch.iter().flat_map(|entries| entries.iter()).any(|entry| entry.scope.tenant() == "back") {
            true => Err(StoreError::RolledBack { tenant: "back".to_owned(), what: String::new() }),
            false => self.writer.append(batch),
        }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.writer.reconnect()
    }

    fn answers(&mut self) -> bool {
        self.writer.answers()
    }

    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        self.writer.held(tenants)
    }
}

#[tokio::test]
async fn a_log_that_went_back_costs_the_others_of_a_batch_one_transaction() {
    let bench = Bench::new();
    let (open, gate) = std::sync::mpsc::channel();
    let appends = Arc::<AtomicUsize>::default();
    let log = RolledBack { writer: bench.writer(), gate, appends: Arc::clone(&appends) };
    let settings = IngestSettings { queue_events: 20, batch_events: 10, batch_bytes: 1 << 20, patience: EVER };
    let (ingest, workers) = Ingest::start([log], settings).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..10 {
        let tenant = if n == 5 || n == 0 { "a" } else { "back" };
        let mut call = Box::pin({
            let ingest = ingest.clone();
            async move { (tenant, ingest.record(vec![(permit_at(tenant), draft(n, IdOrigin::Client))]).await) }
        });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.spawn(call);
    }
    ingest.close();
    drop(open);
    while let Some(call) = calls.join_next().await {
        let (tenant, answer) = call.unwrap();
        assert_eq!(matches!(answer, Err(IngestError::RolledBack { .. })), tenant == "back", "{answer:?}");
    }
    workers.join().await.unwrap();
    // The first one's, that of all that waited meanwhile and what of it is not of that log, unless the worker came upon fewer at first.
    assert!((2..=4).contains(&appends.load(Ordering::Relaxed)), "{appends:?}");
    bench.assert_gapless(2).await;
}
