//! What a writer remembers of the logs that it has appended to.

use std::{collections::HashMap, sync::Arc};

use crate::{
    merkle::Tree,
    model::{Draft, Entry},
    store::heads::{Seen, SeenHeads},
};

use super::plan::{Known, KnownLog, Left, Plan};

/// The most logs that are remembered. Each takes 4 KiB on average, for the hashes of tiles that are not finished.
const MOST: usize = 10_000;

/// The logs as this writer left them, beside what the whole process has seen of them.
pub(super) struct Memory {
    logs: HashMap<String, Remembered>,
    pub(super) seen: Arc<SeenHeads>,
}

#[derive(Debug)]
struct Remembered {
    size: i64,
    /// Absent from when it is taken for a batch until the batch is written.
    tree: Option<Tree>,
    epoch: i32,
    /// Whether somebody else was seen to append to it, too. Then memory alone would fail again and again.
    shared: bool,
}

impl Memory {
    pub(super) fn new(seen: Arc<SeenHeads>) -> Self {
        Self { logs: HashMap::new(), seen }
    }

    /// Forgets all but what the process has seen.
    pub(super) fn clear(&mut self) {
        self.logs.clear();
    }

    /// What is remembered of the batch's logs, if it is worth trying: each is remembered and has a head already, nobody else
    /// appends to it, and there are no notes, which need a look at their events.
    pub(super) fn take(&mut self, batch: &[&[Entry]]) -> Option<Known> {
        let mut known = Known::new();
        for entry in batch.iter().copied().flatten() {
            let tenant = entry.scope.tenant();
            if matches!(entry.draft, Draft::Note(_)) {
                return None;
            }
            if !known.contains_key(tenant) {
                self.logs.get(tenant).filter(|log| log.is_latest(self.seen.get(tenant)))?;
                known.insert(tenant.to_owned(), KnownLog::default());
            }
        }
        for (tenant, known) in &mut known {
            let log = self.logs.get_mut(tenant)?;
            *known = KnownLog::new(log.tree.take()?, log.epoch);
        }
        Some(known)
    }

    /// Remembers how the plan has left the logs, now that it is carried out.
    pub(super) fn keep(&mut self, plan: Plan<'_>) {
        if self.logs.len() >= MOST {
            self.logs.clear();
        }
        for Left { tenant, found, size, tree, epoch } in plan.into_left() {
            let shared = self.logs.get(&tenant).is_some_and(|log| log.size != found);
            if size > 0 {
                self.seen.saw(&tenant, epoch, tree.frontier());
            }
            self.logs.insert(tenant, Remembered { size, tree: Some(tree), epoch, shared });
        }
    }
}

impl Remembered {
    /// Whether a batch may be written on it. Somebody else may have been seen to append since, by a reader say; memory
    /// alone would then not notice that the log has gone back to where this writer left it.
    fn is_latest(&self, seen: Option<Seen>) -> bool {
        let is_behind = seen.is_some_and(|seen| (seen.epoch, seen.size) > (self.epoch, self.size.unsigned_abs()));
        !self.shared && !is_behind && self.size > 0 && self.tree.is_some()
    }
}
