//! Whether somebody who wants little is around. Where nobody is, the others may have everything; else each gets a share,
//! so that those who want little need not wait for long.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::event::Actor;

/// How many ticks somebody counts as being around after they were last seen, and as wanting much after they last did.
const MEMORY: u64 = 256;
/// Of more who wanted much, those who did so long ago are forgotten.
const MANY: usize = 1024;

/// Makes short keys of callers. The seed is secret: nobody can choose a name that has another's key.
#[derive(Clone, Debug, Default)]
pub struct CallerKeys(RandomState);

/// Who calls, as all who serve callers in turn know them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    keys: CallerKeys,
    crowd: Arc<Mutex<Crowd>>,
}

impl Callers {
    /// The key of `caller`.
    pub fn key(&self, caller: &Actor) -> CallerKey {
        self.keys.of(caller)
    }

    /// Those who are around. To be held for a moment only.
    pub fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey(u64);

/// Remembers who was seen lately, wanting little. Time is counted in ticks, so that it stands still where nothing happens.
#[derive(Debug, Default)]
pub struct Crowd {
    now: u64,
    latest: Option<Sighting>,
    /// The latest of all others.
    other: Option<Sighting>,
    /// When each last wanted much: in between, when they have just been served, they seem to want little.
    greedy: HashMap<CallerKey, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    caller: CallerKey,
    at: u64,
}

impl CallerKeys {
    /// The key of `caller`.
    pub fn of(&self, caller: &Actor) -> CallerKey {
        CallerKey(self.0.hash_one((caller.kind.as_str(), &caller.id)))
    }
}

impl Crowd {
    /// Lets the time go on.
    pub fn tick(&mut self) {
        self.now += 1;
    }

    /// Remembers that `caller` is here now, and whether they want much.
    pub fn see(&mut self, caller: CallerKey, wants_much: bool) {
        if wants_much {
            if self.greedy.len() >= MANY {
                self.greedy.retain(|_, at| self.now - *at <= MEMORY);
            }
            self.greedy.insert(caller, self.now);
        }
        if self.greedy.get(&caller).is_none_or(|at| self.now - at > MEMORY) {
            self.see_modest(caller);
        }
    }

    fn see_modest(&mut self, caller: CallerKey) {
        if self.latest.is_some_and(|latest| latest.caller != caller) {
            self.other = self.latest;
        }
        self.latest = Some(Sighting { caller, at: self.now });
    }

    /// Whether somebody else than `caller` was seen lately who wants little.
    pub fn surrounds(&self, caller: CallerKey) -> bool {
        let other = self.latest.filter(|latest| latest.caller != caller).or(self.other);
        other.is_some_and(|other| self.now - other.at <= MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tells_what_the_whole_history_tells(seen in prop::collection::vec((0u64..4, 1u64..200, any::<bool>()), 1..60)) {
            let (mut crowd, mut history) = (Crowd::default(), Vec::new());
            for (caller, ticks, wants_much) in seen {
                (0..ticks).for_each(|_| crowd.tick());
                crowd.see(CallerKey(caller), wants_much);
                history.push((CallerKey(caller), crowd.now, wants_much));
                let is_recent = |at: u64, now: u64| at <= now && now - at <= MEMORY;
                let wanted_much = |caller, now| {
                    history.iter().any(|(other, at, much)| *much && *other == caller && is_recent(*at, now))
                };
                for caller in (0..5).map(CallerKey) {
                    let told = history.iter().any(|(other, at, much)| {
                        *other != caller && !much && is_recent(*at, crowd.now) && !wanted_much(*other, *at)
                    });
                    prop_assert_eq!(crowd.surrounds(caller), told);
                }
            }
        }
    }
}
