//! Room in memory for what is under way: a total for all, and of it a share for each caller.

use std::sync::{Arc, atomic::AtomicU32};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::slots::{OwnSlot, Share, Slot};

/// The most KiB of one caller.
const CALLER_KIB: usize = 64 * 1024;
/// For so many callers who have the most there is room.
const FULL_CALLERS: usize = 8;

/// Room that is taken and given back.
#[derive(Clone)]
pub(super) struct Budget {
    /// KiB that one caller may have at the most.
    most: usize,
    total: Arc<Semaphore>,
    /// Where it is counted what a caller has of it.
    own: fn(&Slot) -> &AtomicU32,
}

/// Room that was taken, given back when it is dropped.
pub struct Room {
    _total: OwnedSemaphorePermit,
    _own: Share,
}

impl Budget {
    /// With room for a caller for at least one thing of `largest` bytes.
    pub(super) fn new(own: fn(&Slot) -> &AtomicU32, largest: usize) -> Self {
        let most = CALLER_KIB.max(kib(largest));
        Self { most, total: Arc::new(Semaphore::new(FULL_CALLERS * most)), own }
    }

    /// Room for so many bytes; `None` if there is too little. Who takes room must leave as much to the others.
    pub(super) fn take(&self, slot: OwnSlot, bytes: usize) -> Option<Room> {
        let kib = u32::try_from(kib(bytes)).ok()?;
        let total = Arc::clone(&self.total).try_acquire_many_owned(kib).ok()?;
        let most = self.most.min(self.total.available_permits());
        Some(Room { _total: total, _own: slot.shares(self.own, kib, most)? })
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}
