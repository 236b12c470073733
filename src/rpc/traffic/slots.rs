//! The callers' shares, in memory of a fixed size.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::auth::Principal;

/// How many slots there are: a megabyte. Callers share a slot if their hashes meet, which with a thousand callers one in
/// sixty of them does, and with a secret seed none can bring about.
const SLOTS: usize = 1 << 16;
/// How far a caller may be ahead of their rate: a second's calls may come at once.
const BURST: Duration = Duration::from_secs(1);

/// All slots.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    seed: RandomState,
    begun: Instant,
    /// Between two calls at the highest rate that is allowed.
    interval: Duration,
}

/// What one caller has under way.
#[derive(Default)]
pub(super) struct Slot {
    /// When, in nanoseconds since the start, the calls so far would have come at the highest rate.
    due: AtomicU64,
    pub(super) calls: AtomicU32,
    pub(super) exports: AtomicU32,
    /// KiB of replies that were not read yet.
    pub(super) unread: AtomicU32,
    /// KiB of requests that have not come in whole.
    pub(super) incoming: AtomicU32,
}

/// A slot that was looked up.
#[derive(Clone)]
pub(super) struct OwnSlot {
    slots: Arc<Slots>,
    at: usize,
}

/// Some of a caller's places, given back when it is dropped.
pub(super) struct Share {
    slot: OwnSlot,
    of: fn(&Slot) -> &AtomicU32,
    count: u32,
}

impl Slots {
    pub(super) fn new(calls_a_second: usize) -> Self {
        let interval = BURST / u32::try_from(calls_a_second).unwrap_or(u32::MAX).max(1);
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { slots, seed: RandomState::new(), begun: Instant::now(), interval }
    }

    pub(super) fn of(self: &Arc<Self>, caller: &Principal) -> OwnSlot {
        let hash = self.seed.hash_one((caller.actor.kind.as_str(), &caller.actor.id));
        let at = usize::try_from(hash % SLOTS as u64).expect("a slot's number fits, because SLOTS does");
        OwnSlot { slots: Arc::clone(self), at }
    }
}

impl OwnSlot {
    fn get(&self) -> &Slot {
        &self.slots.slots[self.at]
    }

    /// One call more; or how long to wait for it.
    pub(super) fn take_turn(&self) -> Result<(), Duration> {
        self.get().take_turn(self.slots.begun.elapsed(), self.slots.interval)
    }

    /// One place more, if there are not `most` already.
    pub(super) fn share(self, of: fn(&Slot) -> &AtomicU32, most: usize) -> Option<Share> {
        self.shares(of, 1, most)
    }

    /// So many places more, if there are not more than `most` then.
    pub(super) fn shares(self, of: fn(&Slot) -> &AtomicU32, count: u32, most: usize) -> Option<Share> {
        let fits = |taken: &u32| usize::try_from(*taken).is_ok_and(|taken| taken <= most);
        let more = |taken: u32| taken.checked_add(count).filter(fits);
        let taken = of(self.get()).fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        // Made only where places were taken, because its drop gives them back.
        taken.is_ok().then(|| Share { slot: self, of, count })
    }
}

impl Slot {
    /// The generic cell rate algorithm: a leaky bucket that is one number.
    fn take_turn(&self, now: Duration, interval: Duration) -> Result<(), Duration> {
        let (now, interval, burst) = (nanos(now), nanos(interval), nanos(BURST));
        let next = |due: u64| {
            let next = due.max(now) + interval;
            (next - now <= burst).then_some(next)
        };
        let taken = self.due.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.map(drop).map_err(|due| Duration::from_nanos((due + interval).saturating_sub(now + burst)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        (self.of)(self.slot.get()).fetch_sub(self.count, Ordering::AcqRel);
    }
}

/// Good for five hundred years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any stretch of time no more pass than the rate allows and one burst; and who waits as told passes.
        #[test]
        fn no_more_pass_than_the_rate_and_one_burst(rate in 1u32..500, gaps in prop::collection::vec(0u64..50_000_000, 1..400)) {
            let (slot, interval) = (Slot::default(), BURST / rate);
            let (mut now, mut passed) = (Duration::ZERO, 0u32);
            for gap in gaps {
                now += Duration::from_nanos(gap);
                match slot.take_turn(now, interval) {
                    Ok(()) => passed += 1,
                    Err(wait) => {
                        now += wait;
                        prop_assert!(slot.take_turn(now, interval).is_ok());
                        passed += 1;
                    }
                }
                let allowed = (now + BURST).as_nanos() / interval.as_nanos();
                prop_assert!(u128::from(passed) <= allowed + 1, "{passed} of {allowed}");
            }
        }
    }

    #[test]
    fn a_place_comes_back_when_it_is_dropped() {
        let slots = Arc::new(Slots::new(10));
        let share = |at| OwnSlot { slots: Arc::clone(&slots), at }.share(|slot| &slot.calls, 2);
        let (first, second) = (share(7), share(7));
        assert!(first.is_some() && second.is_some() && share(7).is_none());
        assert!((0..5).all(|_| share(7).is_none()), "a refusal gives no place back");
        assert!(share(8).is_some(), "another caller is not concerned");
        drop(first);
        let third = share(7);
        assert!(third.is_some() && share(7).is_none());
        drop((second, third));
        assert_eq!(slots.slots[7].calls.load(Ordering::Acquire), 0);
    }
}
