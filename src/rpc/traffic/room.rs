//! Room in memory for what is under way: a total for all, and of it a share for each caller.

use std::sync::{Arc, atomic::AtomicU32};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::slots::{OwnSlot, Share, Slot};

/// The most KiB: of one caller, and of all.
const CALLER_KIB: usize = 64 * 1024;
const TOTAL_KIB: usize = 8 * CALLER_KIB;

/// Room that is taken and given back.
#[derive(Clone)]
pub(super) struct Budget {
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
    pub(super) fn new(own: fn(&Slot) -> &AtomicU32) -> Self {
        Self { total: Arc::new(Semaphore::new(TOTAL_KIB)), own }
    }

    /// Room for so many bytes; `None` if there is too little. Who takes room must leave as much to the others.
    pub(super) fn take(&self, slot: OwnSlot, bytes: usize) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        let total = Arc::clone(&self.total).try_acquire_many_owned(kib).ok()?;
        let most = CALLER_KIB.min(self.total.available_permits());
        Some(Room { _total: total, _own: slot.shares(self.own, kib, most)? })
    }
}
