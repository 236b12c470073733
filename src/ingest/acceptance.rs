//! Whether the store takes what it is given. A full disk, or a lock that somebody keeps, shows in appends alone; those of the callers
//! tell, so that nothing need be written to find out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Appended, StoreError};

/// How long batches must have failed, and nothing have been stored, before the store counts as one that takes nothing: a connection
/// that was cut is no such sign, nor a row that it refuses beside others that it takes.
const PROOF: Duration = Duration::from_secs(2);
/// After so long without a try another failure is another trouble.
const LASTING: Duration = Duration::from_secs(60);
/// How long after the last failure it counts as one still, where nobody tries. Then whoever comes finds out anew: those who are sent
/// elsewhere meanwhile cannot bring the good news.
const HOLD: Duration = Duration::from_secs(10);

/// How the last batches went. Clones share it: what one worker stores shows that the others' failures are their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptance(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When something was stored last.
    stored: Option<Instant>,
    /// Since then.
    failing: Option<Failing>,
}

/// Batches have failed.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    /// Since when the next one has been tried, which may take longer than the hold.
    tried: Option<Instant>,
}

impl Acceptance {
    /// Notes that a batch is going to be tried.
    pub(super) fn begins(&self) {
        if let Some(failing) = &mut self.lock().failing {
            failing.begin(Instant::now());
        }
    }

    /// Notes how a batch, whose first attempt began at `begun`, went in the end. One that waited for what another session holds is not for
    /// here.
    pub(super) fn saw(&self, result: &Result<Appended, StoreError>, begun: Instant) {
        match result {
            // Repeats, and what is turned down, are not written.
            Ok(appended) if appended.stored > 0 => {
                *self.lock() = State { stored: Some(Instant::now()), failing: None };
            }
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::Unusable(_)) => {
                self.failed(begun);
            }
            _ => self.learned_nothing(),
        }
    }

    /// Notes that the batch that was tried tells nothing of the store.
    pub(super) fn learned_nothing(&self) {
        if let Some(failing) = &mut self.lock().failing {
            failing.tried = None;
        }
    }

    /// Notes that a batch, or what is left of it, was given up.
    pub(super) fn failed(&self, begun: Instant) {
        let mut state = self.lock();
        let begun = state.stored.map_or(begun, |stored| begun.max(stored));
        state.failing = Some(Failing::more(state.failing, begun, Instant::now()));
    }

    /// Whether it takes nothing.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().failing.is_some_and(|failing| failing.is_proof(Instant::now()))
    }

    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failing.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failing {
    fn more(before: Option<Self>, begun: Instant, now: Instant) -> Self {
        let lasting = before.filter(|before| begun.saturating_duration_since(before.last) < LASTING);
        Self { since: lasting.map_or(begun, |before| before.since), last: now, tried: None }
    }

    /// The first that is tried within the hold prolongs it.
    fn begin(&mut self, now: Instant) {
        if now.duration_since(self.last) < HOLD {
            self.tried.get_or_insert(now);
        }
    }

    fn is_proof(self, now: Instant) -> bool {
        let is_held = now.duration_since(self.last) < HOLD;
        let is_tried = self.tried.is_some_and(|tried| now.duration_since(tried) < LASTING);
        self.last.duration_since(self.since) >= PROOF && (is_held || is_tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_without_a_store_between_are_proof_for_a_while_and_as_long_as_it_is_tried() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let more = |before, seconds| Failing::more(before, at(seconds), at(seconds));
        let once = more(None, 0.0);
        assert!(!once.is_proof(at(0.0)) && !once.is_proof(at(5.0)), "it has come once");
        let soon = more(Some(once), 1.9);
        assert!(!soon.is_proof(at(3.0)));
        let again = more(Some(soon), 2.0);
        assert!(again.is_proof(at(2.0)) && again.is_proof(at(11.9)));
        assert!(!again.is_proof(at(12.0)), "it has not been tried for long");
        assert!(more(Some(again), 61.0).is_proof(at(61.0)), "and then it failed as before");
        assert!(!more(Some(again), 62.0).is_proof(at(62.0)), "a minute later it may be another trouble");
        let mut tried = again;
        tried.begin(at(11.0));
        tried.begin(at(11.5));
        assert!(tried.is_proof(at(70.9)) && !tried.is_proof(at(71.0)), "it takes long to fail");
        let mut late = again;
        late.begin(at(12.0));
        assert!(!late.is_proof(at(12.0)), "it was not proof any more");
    }

    #[test]
    fn one_batch_that_fails_for_long_is_proof_unless_something_was_stored_meanwhile() {
        let now = Instant::now();
        let begun = now.checked_sub(PROOF).unwrap();
        let acceptance = Acceptance::default();
        let full = || Err(StoreError::Unavailable("full".to_owned()));
        acceptance.saw(&full(), begun);
        assert!(acceptance.is_refused());
        acceptance.saw(&Ok(Appended { outcomes: Vec::new(), stored: 1 }), begun);
        acceptance.saw(&full(), begun);
        assert!(!acceptance.is_refused());
    }

    #[test]
    fn what_is_stored_ends_it_and_what_is_not_written_says_nothing() {
        let acceptance = Acceptance::default();
        let saw = |result| acceptance.clone().saw(&result, Instant::now());
        let appended = |stored| Ok(Appended { outcomes: vec![Ok(Vec::new())], stored });
        saw(Err(StoreError::Refused("a row".to_owned())));
        assert!(!acceptance.has_failed());
        saw(Err(StoreError::Unavailable("full".to_owned())));
        saw(appended(0));
        assert!(acceptance.has_failed());
        saw(appended(1));
        assert!(!acceptance.has_failed());
    }
}
