//! Logs that somebody else holds: what is of them must not hold up what is of others.
//!
//! A head that is locked by somebody who takes their time, such as an operator with an open transaction, is waited for once. From then
//! on its tenant is not waited for until the head is found free, or in other hands: then it goes around among writers, and
//! whoever does not wait for it never gets it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    batch::Submission,
    commit::{Log, failure},
};
use crate::store::StoreError;

/// The tenants whose logs were found to be held, and not found otherwise since, and by whom.
#[derive(Default)]
pub(super) struct Held(BTreeMap<String, String>);

impl Held {
    /// Whether somebody else holds logs that a batch is of, which has just failed with `error`.
    pub(super) fn find(&mut self, log: &mut dyn Log, batch: &[Submission], error: &StoreError) -> bool {
        // A store that cannot be asked has failed for another reason.
        let held = log.held(&tenants(batch)).unwrap_or_default();
        let is_any = !held.is_empty();
        if is_any {
            tracing::warn!(%error, tenants = ?held.keys(), "somebody else holds the heads of these logs");
        }
        self.0.extend(held);
        is_any
    }

    /// Parts what is of logs that were found to be held from the rest.
    pub(super) fn part(&self, batch: Vec<Submission>) -> (Vec<Submission>, Vec<Submission>) {
        batch.into_iter().partition(|submission| submission.tenant().is_some_and(|tenant| self.0.contains_key(tenant)))
    }

    /// Answers what is of logs that are held still, and gives back the rest.
    pub(super) fn refuse(&mut self, log: &mut dyn Log, batch: Vec<Submission>) -> Vec<Submission> {
        if self.0.is_empty() {
            return batch;
        }
        self.look_again(log, &batch);
        let (held, rest) = self.part(batch);
        for submission in held {
            let tenant = submission.tenant().unwrap_or_default();
            let why = format!("another session of the database holds the head of tenants/{tenant}");
            let answer = failure(&StoreError::Unavailable(why), &submission);
            submission.answer(Err(answer));
        }
        rest
    }

    fn look_again(&mut self, log: &mut dyn Log, batch: &[Submission]) {
        let mut asked = tenants(batch);
        asked.retain(|tenant| self.0.contains_key(*tenant));
        if asked.is_empty() {
            return;
        }
        // A store that cannot be asked is for those to notice who append.
        let now = log.held(&asked).unwrap_or_default();
        self.0.retain(|tenant, holder| !asked.contains(&tenant.as_str()) || now.get(tenant) == Some(holder));
    }
}

fn tenants(batch: &[Submission]) -> Vec<&str> {
    let tenants: BTreeSet<&str> = batch.iter().filter_map(Submission::tenant).collect();
    tenants.into_iter().collect()
}
