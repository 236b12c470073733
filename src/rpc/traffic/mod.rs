//! How much may come: calls and exports at a time, calls a second, time of a call.
//!
//! Each caller has a slot for their own share, so that one who floods is told to wait while the others are served. What
//! has no caller (health, reflection, calls that will be refused for their credentials) counts in the total only.

mod deadline;
mod held;
mod layer;
mod slots;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::slots::{Share, Slot, Slots};
use super::status::Failure;
use crate::{auth::Principal, model::TrafficLimits};

pub use deadline::Patience;
pub use layer::TrafficLayer;

/// The most streams of health and reflection at a time, which nobody has to be known for.
const STREAMS: usize = 1024;
/// The most KiB of replies that wait to be read: of one caller, and of all.
const CALLER_UNREAD: usize = 64 * 1024;
const UNREAD: usize = 4 * CALLER_UNREAD;
/// So few wait in the buffers of their connection.
const SMALL: usize = 16 * 1024;

/// Counts what is under way.
pub struct Traffic {
    limits: TrafficLimits,
    calls: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    unread: Arc<Semaphore>,
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

/// Room in memory for a reply, until its reader has taken it or has gone. Copies share it.
#[derive(Clone)]
pub struct ReplyRoom {
    held: Option<Arc<(OwnedSemaphorePermit, Share)>>,
}

impl ReplyRoom {
    /// Whether any is held.
    fn is_any(&self) -> bool {
        self.held.is_some()
    }
}

impl Traffic {
    /// Nothing is under way yet.
    pub fn new(limits: TrafficLimits) -> Self {
        Self {
            limits,
            calls: Arc::new(Semaphore::new(limits.calls)),
            exports: Arc::new(Semaphore::new(limits.exports)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            unread: Arc::new(Semaphore::new(UNREAD)),
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

    /// A place for an export of `caller`.
    pub fn export(&self, caller: &Principal) -> Result<ExportPlace, Failure> {
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

    /// A place for a stream of health or reflection.
    fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let busy = |_| Failure::busy("too many streams of health and reflection are open; retry later");
        Arc::clone(&self.streams).try_acquire_owned().map_err(busy)
    }

    /// Room for a reply of so many bytes to `caller`.
    pub fn room(&self, caller: &Principal, bytes: usize) -> Result<ReplyRoom, Failure> {
        if bytes <= SMALL {
            return Ok(ReplyRoom { held: None });
        }
        let busy = || Failure::busy("too many replies have not been read; read them first, then ask again");
        let kib = u32::try_from(bytes.div_ceil(1024)).map_err(Failure::internal)?;
        let own = self.slots.of(caller).shares(|slot: &Slot| &slot.unread, kib, CALLER_UNREAD).ok_or_else(busy)?;
        let total = Arc::clone(&self.unread).try_acquire_many_owned(kib).map_err(|_| busy())?;
        Ok(ReplyRoom { held: Some(Arc::new((total, own))) })
    }
}
