//! The append path: what waits, how large batches are, how long commits take, and where replicas meet.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Label, SECONDS};
use crate::model::ActionType;

/// From one event to the most that a batch holds by default.
const EVENTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// Counts what is appended.
#[derive(Debug)]
pub struct AppendMetrics {
    queue: Gauge<i64, AtomicI64>,
    queue_capacity: Gauge<i64, AtomicI64>,
    hung: Gauge<i64, AtomicI64>,
    batch: Histogram,
    commit: Histogram,
    commit_failures: Counter<u64, AtomicU64>,
    head_lock: Histogram,
    conflicts: Counter<u64, AtomicU64>,
    held: Counter<u64, AtomicU64>,
    creates: Counter<u64, AtomicU64>,
    updates: Counter<u64, AtomicU64>,
    deletes: Counter<u64, AtomicU64>,
    notes: Counter<u64, AtomicU64>,
}

impl AppendMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let events = Family::<Label, Counter>::default();
        let of = |action: ActionType| events.get_or_create_owned(&[("action", action.as_str())]);
        let new = Self {
            queue: Gauge::default(),
            queue_capacity: Gauge::default(),
            hung: Gauge::default(),
            batch: Histogram::new(EVENTS),
            commit: Histogram::new(SECONDS),
            commit_failures: Counter::default(),
            head_lock: Histogram::new(SECONDS),
            conflicts: Counter::default(),
            held: Counter::default(),
            creates: of(ActionType::Create),
            updates: of(ActionType::Update),
            deletes: of(ActionType::Delete),
            notes: Counter::default(),
        };
        registry.register("events_recorded", "Events stored, by action; repeats are not counted again", events);
        registry.register("notes_recorded", "Update notes stored; repeats are not counted again", new.notes.clone());
        new.register_queue(registry);
        new.register_commits(registry);
        new.register_heads(registry);
        new
    }

    fn register_queue(&self, registry: &mut Registry) {
        let help = "Events and notes that wait to be stored or are being stored";
        registry.register("append_queue_events", help, self.queue.clone());
        let help = "The most events and notes that may wait; beyond it a call ends with RESOURCE_EXHAUSTED";
        registry.register("append_queue_capacity_events", help, self.queue_capacity.clone());
        registry.register("append_batch_events", "Events and notes of one transaction", self.batch.clone());
    }

    fn register_commits(&self, registry: &mut Registry) {
        let help = "How long the transaction of a batch took, whether it was stored or not";
        registry.register_with_unit("append_commit_duration", help, Unit::Seconds, self.commit.clone());
        let help = "Transactions that failed, but for those of logs that went back; many are tried again";
        registry.register("append_commit_failures", help, self.commit_failures.clone());
        let help =
            "Append workers that wait for a database which does not answer, for longer than any call of it may take";
        registry.register("append_hung_workers", help, self.hung.clone());
    }

    fn register_heads(&self, registry: &mut Registry) {
        let help = "How long transactions waited for the locks on their tenants' heads, which other writers may hold";
        registry.register_with_unit("append_head_wait", help, Unit::Seconds, self.head_lock.clone());
        let help =
            "Transactions that began anew because another writer moved a tenant's head or an id was stored already";
        registry.register("append_head_conflicts", help, self.conflicts.clone());
        let help =
            "Heads that another session was found to keep, counted at each look; what comes for their logs is refused";
        registry.register("append_held_heads", help, self.held.clone());
    }

    /// How much waits now, and how much may. To be told before each [`encode`](super::Metrics::encode).
    pub fn queue(&self, waiting: usize, capacity: usize) {
        self.queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.queue_capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
    }

    /// So many workers hang now. To be told as [`Self::queue`] is.
    pub fn hung(&self, workers: usize) {
        self.hung.set(i64::try_from(workers).unwrap_or(i64::MAX));
    }

    /// One transaction of `entries` events and notes has taken this long.
    pub fn transaction(&self, entries: usize, duration: Duration, is_stored: bool) {
        self.batch.observe(entries as f64);
        self.commit.observe(duration.as_secs_f64());
        if !is_stored {
            self.commit_failures.inc();
        }
    }

    /// A transaction has got the locks on its tenants' heads, or has given up, after this long.
    pub fn head_lock(&self, waited: Duration) {
        self.head_lock.observe(waited.as_secs_f64());
    }

    /// A transaction stored nothing because another one was faster, or an id is stored already; it begins anew.
    pub fn conflict(&self) {
        self.conflicts.inc();
    }

    /// So many heads were found to be kept by other sessions.
    pub fn held(&self, heads: usize) {
        self.held.inc_by(heads as u64);
    }

    /// A new event is stored.
    pub fn event(&self, action: ActionType) {
        match action {
            ActionType::Create => &self.creates,
            ActionType::Update => &self.updates,
            ActionType::Delete => &self.deletes,
        }
        .inc();
    }

    /// A new note is stored.
    pub fn note(&self) {
        self.notes.inc();
    }
}
