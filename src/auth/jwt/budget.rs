//! How often something may be done because a stranger asks for it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A token bucket: `BURST` at once, then one each `EVERY`.
pub(super) struct Budget {
    /// When the bucket will be full again.
    full_at: Mutex<Instant>,
}

/// A rotation of keys takes one; a second issuer, a restart and a typing error may come on top.
pub(super) const BURST: u32 = 4;
const EVERY: Duration = Duration::from_secs(15);

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: Mutex::new(now) }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + EVERY;
        let there_is_one = next - now <= EVERY * BURST;
        if there_is_one {
            *full_at = next;
        }
        there_is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let taken = |now| (0..20).filter(|_| budget.take(now)).count();
        assert_eq!(taken(start), BURST as usize);
        assert_eq!(taken(start + EVERY), 1);
        assert_eq!(taken(start + EVERY * 100), BURST as usize);
    }
}
