//! Whether the store takes what it is given. A full disk, or a lock that somebody keeps, shows in appends alone; those of the callers
//! tell, so that nothing need be written to find out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Outcome, StoreError};

/// For how long appends must have failed, and none have succeeded, before the store counts as one that takes nothing: a connection that
/// was cut, or a row of one caller that it has no name for, is no such sign.
const PROOF: Duration = Duration::from_secs(2);
/// How long after the last failure it counts as one still. Then whoever comes finds out anew: those who are sent elsewhere meanwhile
/// cannot bring the good news.
const HOLD: Duration = Duration::from_secs(10);

/// How the last appends went. Clones share it: what one worker stores shows that the others' failures are their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptance(Arc<Mutex<Option<Failing>>>);

/// Appends have failed, and none has succeeded since.
#[derive(Clone, Copy, Debug)]
struct Failing {
    first: Instant,
    last: Instant,
}

impl Acceptance {
    /// Notes how an append went.
    pub(super) fn saw(&self, result: &Result<Vec<Outcome>, StoreError>) {
        match result {
            // Where all were turned down nothing was written.
            Ok(outcomes) if outcomes.iter().any(Result::is_ok) => self.set(|_| None),
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => {
                let now = Instant::now();
                self.set(|before| Some(Failing::more(before, now)));
            }
            _ => (),
        }
    }

    /// Whether it takes nothing.
    pub(super) fn is_refused(&self) -> bool {
        let failing = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.is_some_and(|failing| failing.is_proof(Instant::now()))
    }

    fn set(&self, next: impl FnOnce(Option<Failing>) -> Option<Failing>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = next(*state);
    }
}

impl Failing {
    /// What nobody has tried for long may be another trouble.
    fn more(before: Option<Self>, now: Instant) -> Self {
        let lasting = before.filter(|before| now.duration_since(before.last) < 6 * HOLD);
        Self { first: lasting.map_or(now, |before| before.first), last: now }
    }

    fn is_proof(self, now: Instant) -> bool {
        self.last.duration_since(self.first) >= PROOF && now.duration_since(self.last) < HOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rejection;

    fn unavailable() -> Result<Vec<Outcome>, StoreError> {
        Err(StoreError::Unavailable("full".to_owned()))
    }

    #[test]
    fn a_failure_that_comes_again_and_again_is_proof_for_a_while() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let once = Failing::more(None, at(0.0));
        assert!(!once.is_proof(at(0.0)) && !once.is_proof(at(5.0)), "it has come once");
        let soon = Failing::more(Some(once), at(1.9));
        assert!(!soon.is_proof(at(3.0)));
        let again = Failing::more(Some(soon), at(2.0));
        assert!(again.is_proof(at(2.0)) && again.is_proof(at(11.9)));
        assert!(!again.is_proof(at(12.0)), "it has not been tried for long");
        assert!(Failing::more(Some(again), at(13.0)).is_proof(at(13.0)), "and then it failed as before");
        assert!(!Failing::more(Some(again), at(62.0)).is_proof(at(62.0)), "a minute later that may be another trouble");
    }

    #[test]
    fn what_is_stored_ends_it_and_what_is_turned_down_says_nothing() {
        let acceptance = Acceptance::default();
        let failing = |acceptance: &Acceptance| acceptance.0.lock().unwrap().is_some();
        acceptance.saw(&Err(StoreError::Refused("a row".to_owned())));
        assert!(!failing(&acceptance));
        acceptance.clone().saw(&unavailable());
        assert!(failing(&acceptance));
        acceptance.saw(&Ok(vec![Err(Rejection::EventNotFound)]));
        acceptance.saw(&Ok(Vec::new()));
        assert!(failing(&acceptance));
        acceptance.clone().saw(&Ok(vec![Err(Rejection::EventNotFound), Ok(Vec::new())]));
        assert!(!failing(&acceptance));
    }
}
