//! A log whose transactions are measured.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    metrics::Metrics,
    model::Entry,
    store::{Appended, StoreError},
};

use super::commit::Log;

/// Appends to `log`, and counts.
pub struct Measured<L> {
    log: L,
    metrics: Metrics,
}

impl<L> Measured<L> {
    /// Counts what is appended to `log`.
    pub fn new(log: L, metrics: Metrics) -> Self {
        Self { log, metrics }
    }
}

impl<L: Log> Log for Measured<L> {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        let begun = Instant::now();
        let result = self.log.append(batch);
        let entries = batch.iter().map(|entries| entries.len()).sum();
        // A log that went back is no failure of the database's.
        let is_done = matches!(result, Ok(_) | Err(StoreError::RolledBack { .. }));
        self.metrics.append().transaction(entries, begun.elapsed(), is_done);
        result
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.log.reconnect()
    }

    fn answers(&mut self) -> bool {
        self.log.answers()
    }

    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        let held = self.log.held(tenants)?;
        self.metrics.append().held(held.len());
        Ok(held)
    }
}
