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
}

impl Acceptance {
    /// Notes how a batch, whose first attempt began at `begun`, went in the end. One that waited for what another session holds is not for
    /// here.
    pub(super) fn saw(&self, result: &Result<Appended, StoreError>, begun: Instant) {
        let mut state = self.lock();
        match result {
            // Repeats, and what is turned down, are not written.
            Ok(appended) if appended.stored > 0 => *state = State { stored: Some(Instant::now()), failing: None },
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => {
                let begun = state.stored.map_or(begun, |stored| begun.max(stored));
                state.failing = Some(Failing::more(state.failing, begun, Instant::now()));
            }
            _ => (),
        }
    }

    /// Whether it takes nothing. While it is being tried, which may take longer than the hold, what was known stands.
    pub(super) fn is_refused(&self, is_tried: bool) -> bool {
        self.lock().failing.is_some_and(|failing| failing.is_proof(Instant::now(), is_tried))
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
        Self { since: lasting.map_or(begun, |before| before.since), last: now }
    }

    fn is_proof(self, now: Instant, is_tried: bool) -> bool {
        self.last.duration_since(self.since) >= PROOF && (is_tried || now.duration_since(self.last) < HOLD)
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
        assert!(!once.is_proof(at(0.0), false) && !once.is_proof(at(5.0), true), "it has come once");
        let soon = more(Some(once), 1.9);
        assert!(!soon.is_proof(at(3.0), true));
        let again = more(Some(soon), 2.0);
        assert!(again.is_proof(at(2.0), false) && again.is_proof(at(11.9), false));
        assert!(!again.is_proof(at(12.0), false), "it has not been tried for long");
        assert!(again.is_proof(at(300.0), true), "it takes long to fail");
        assert!(more(Some(again), 61.0).is_proof(at(61.0), false), "and then it failed as before");
        assert!(!more(Some(again), 62.0).is_proof(at(62.0), false), "a minute later it may be another trouble");
    }

    #[test]
    fn one_batch_that_fails_for_long_is_proof_unless_something_was_stored_meanwhile() {
        let now = Instant::now();
        let begun = now.checked_sub(PROOF).unwrap();
        let acceptance = Acceptance::default();
        let full = || Err(StoreError::Unavailable("full".to_owned()));
        acceptance.saw(&full(), begun);
        assert!(acceptance.is_refused(false));
        acceptance.saw(&Ok(Appended { outcomes: Vec::new(), stored: 1 }), begun);
        acceptance.saw(&full(), begun);
        assert!(!acceptance.is_refused(false));
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
