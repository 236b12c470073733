//! How much may come: calls and exports at a time, calls a second, time of a call; and how much may wait to be read.
//!
//! Each caller has a slot for their own share, so that one who floods is told to wait while the others are served. What
//! has no caller (health, reflection, calls that will be refused for their credentials) counts in the total only.

mod deadline;
mod incoming;
mod layer;
mod room;
mod slots;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::{
    incoming::{Meter, PREFIX_BYTES},
    room::Budget,
    slots::{Share, Slot, Slots},
};
use super::status::Failure;
use crate::{auth::Principal, model::TrafficLimits};

pub use deadline::Patience;
pub use layer::TrafficLayer;
pub use room::Room as ReplyRoom;

/// The most streams of health at a time, and of reflection, for which nobody has to be known.
const STREAMS: usize = 1024;
/// Requests that have not come in whole, and replies, are not counted up to so many bytes: they are many.
const UNCOUNTED_BYTES: usize = 16 * 1024;
/// What is made of an export and not yet sent: a piece that the transport has and one that waits for it, of which each may be three
/// times of what a chunk's events take, and a third more as text.
const EXPORT_BYTES: usize = 2 * 1024 * 1024;

/// Counts what is under way.
pub struct Traffic {
    limits: TrafficLimits,
    calls: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    reflections: Arc<Semaphore>,
    unread: Budget,
    incoming: Budget,
    largest_message: usize,
    slots: Arc<Slots>,
}

/// The right to a place among the calls, given back when it is dropped.
pub struct CallPlace {
    _total: OwnedSemaphorePermit,
    _own: Option<Share>,
}

/// The right to a place among the exports, given back when it is dropped.
pub struct ExportPlace {
    _total: OwnedSemaphorePermit,
    _own: Share,
}

/// What an export takes.
pub struct ExportShare {
    /// As long as it is made.
    pub place: ExportPlace,
    /// Until its last byte is sent, which may be never where its reader takes none and the connection goes on.
    pub room: ReplyRoom,
}

impl Traffic {
    /// Nothing is under way yet. No message may have more than `largest_message` bytes.
    pub fn new(limits: TrafficLimits, largest_message: usize) -> Self {
        Self {
            limits,
            calls: Arc::new(Semaphore::new(limits.calls)),
            exports: Arc::new(Semaphore::new(limits.exports)),
            watches: Arc::new(Semaphore::new(STREAMS)),
            reflections: Arc::new(Semaphore::new(STREAMS)),
            unread: Budget::new(|slot| &slot.unread, 0),
            incoming: Budget::new(|slot| &slot.incoming, PREFIX_BYTES + largest_message),
            largest_message,
            slots: Arc::new(Slots::new(limits.caller_rate)),
        }
    }

    /// The limits themselves.
    pub fn limits(&self) -> &TrafficLimits {
        &self.limits
    }

    /// A place for a call of `caller`, if they are known.
    fn call(&self, caller: Option<&Principal>) -> Result<CallPlace, Failure> {
        let own = caller.map(|caller| self.own_call(caller)).transpose()?;
        let total = Arc::clone(&self.calls).try_acquire_owned();
        let total = total.map_err(|_| Failure::busy("too many calls are under way; nothing was done, retry later"))?;
        Ok(CallPlace { _total: total, _own: own })
    }

    fn own_call(&self, caller: &Principal) -> Result<Share, Failure> {
        let slot = self.slots.of(caller);
        slot.take_turn().map_err(|wait| {
            let message =
                format!("more than {} calls a second; nothing was done, retry later", self.limits.caller_rate);
            Failure::RateLimited { message, retry_after: wait }
        })?;
        let own = slot.share(|slot| &slot.calls, self.limits.caller_calls);
        own.ok_or_else(|| {
            let most = self.limits.caller_calls;
            Failure::busy(&format!("more than {most} calls of one caller at a time; nothing was done, retry later"))
        })
    }

    /// A place for an export of `caller`, and room for what of it is not read.
    pub fn export(&self, caller: &Principal) -> Result<ExportShare, Failure> {
        Ok(ExportShare { place: self.export_place(caller)?, room: self.large_room(caller, EXPORT_BYTES)? })
    }

    fn export_place(&self, caller: &Principal) -> Result<ExportPlace, Failure> {
        let most = self.limits.caller_exports;
        let own = self.slots.of(caller).share(|slot: &Slot| &slot.exports, most);
        let own = own.ok_or_else(|| {
            Failure::busy(&format!("more than {most} exports of one caller at a time; nothing was done, retry later"))
        })?;
        let total = Arc::clone(&self.exports).try_acquire_owned();
        let total =
            total.map_err(|_| Failure::busy("too many exports are under way; nothing was done, retry later"))?;
        Ok(ExportPlace { _total: total, _own: own })
    }

    /// A place for somebody who watches the health.
    fn watch(&self) -> Result<OwnedSemaphorePermit, Failure> {
        stream(&self.watches)
    }

    /// A place for somebody who asks for the contract.
    fn reflection(&self) -> Result<OwnedSemaphorePermit, Failure> {
        stream(&self.reflections)
    }

    /// Room for a reply of so many bytes to `caller`; `None` for a small one, which needs none.
    pub fn room(&self, caller: &Principal, bytes: usize) -> Result<Option<ReplyRoom>, Failure> {
        (bytes > UNCOUNTED_BYTES).then(|| self.large_room(caller, bytes)).transpose()
    }

    fn large_room(&self, caller: &Principal, bytes: usize) -> Result<ReplyRoom, Failure> {
        let busy = || Failure::busy("too many replies have not been read; read them first, then ask again");
        self.unread.take(self.slots.of(caller), bytes).ok_or_else(busy)
    }

    /// What finds room for the request that `caller` is sending.
    fn meter(&self, caller: &Principal) -> Meter {
        Meter::new(self.incoming.clone(), self.slots.of(caller), self.largest_message)
    }
}

fn stream(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
    let busy = |_| Failure::busy("too many streams of this kind are open; retry later");
    Arc::clone(places).try_acquire_owned().map_err(busy)
}
