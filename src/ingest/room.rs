//! The room in the queue, and how much of it each caller has.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::model::CallerKey;

use super::handle::IngestError;

/// A caller may have at most so many times of what is left for others. One who floods alone gets three quarters of the
/// queue, two get three sevenths each: there is always room for somebody new.
const MOST_TO_LEFT: usize = 3;

/// What bounds the queues. Clones share it.
#[derive(Clone)]
pub(super) struct Room {
    /// A permit for each entry that waits or is being committed.
    permits: Arc<Semaphore>,
    /// How many of them each caller has.
    holdings: Arc<Mutex<HashMap<CallerKey, usize>>>,
}

/// Room for one submission, given back when it is dropped.
pub(super) struct Place {
    _permits: OwnedSemaphorePermit,
    room: Room,
    caller: CallerKey,
    entries: usize,
}

impl Room {
    pub(super) fn new(entries: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(entries)), holdings: Arc::default() }
    }

    /// Room for `entries` of `caller`. Who has nothing in the queue may have whatever room there is.
    pub(super) fn take(&self, caller: CallerKey, entries: usize) -> Result<Place, IngestError> {
        let mut holdings = self.lock();
        let own = holdings.get(&caller).copied().unwrap_or(0);
        if own > 0 && !self.permits.is_closed() && own + entries > MOST_TO_LEFT * self.left() {
            return Err(IngestError::QueueFull);
        }
        let wanted = u32::try_from(entries).map_err(|_| IngestError::QueueFull)?;
        let permits = Arc::clone(&self.permits).try_acquire_many_owned(wanted).map_err(|error| match error {
            TryAcquireError::NoPermits => IngestError::QueueFull,
            TryAcquireError::Closed => IngestError::ShuttingDown,
        })?;
        holdings.insert(caller, own + entries);
        Ok(Place { _permits: permits, room: self.clone(), caller, entries })
    }

    /// For how many entries there is room.
    pub(super) fn left(&self) -> usize {
        self.permits.available_permits()
    }

    /// How many entries have it.
    pub(super) fn taken(&self) -> usize {
        self.lock().values().sum()
    }

    /// There is room for nobody any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut holdings = self.room.lock();
        let rest = holdings.get(&self.caller).map_or(0, |own| own.saturating_sub(self.entries));
        match rest {
            0 => drop(holdings.remove(&self.caller)),
            rest => drop(holdings.insert(self.caller, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, ActorType, Callers};

    #[test]
    fn one_caller_leaves_a_quarter_and_two_leave_a_seventh() {
        let (room, keys) = (Room::new(4200), Callers::default());
        let key = |id: &str| keys.key(&Actor { kind: ActorType::User, id: id.to_owned(), name: String::new() });
        let fill = |id| std::iter::from_fn(|| room.take(key(id), 1).ok()).collect::<Vec<_>>();
        let ann = fill("ann");
        assert_eq!(ann.len(), 3150);
        let whole = room.take(key("bob"), 1050).unwrap();
        assert_eq!(room.left(), 0);
        drop((whole, ann));
        assert_eq!((room.left(), room.lock().len()), (4200, 0));
        let (mut ann, mut bob) = (Vec::new(), Vec::new());
        while let (Ok(of_ann), Ok(of_bob)) = (room.take(key("ann"), 1), room.take(key("bob"), 1)) {
            ann.push(of_ann);
            bob.push(of_bob);
        }
        assert_eq!((ann.len(), bob.len()), (1800, 1800));
        room.close();
        assert!(matches!(room.take(key("ann"), 1), Err(IngestError::ShuttingDown)));
    }
}
