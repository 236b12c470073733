//! What is counted of one deed.

use std::sync::Arc;

use futures_util::future::Shared;
use tokio::{sync::oneshot, time::Instant};

use crate::ingest::IngestError;

use super::story::{First, Story, Sum, Told};

/// Whether the telling that is under way has come to a good end.
pub(super) type Telling = Shared<oneshot::Receiver<Result<(), IngestError>>>;

/// How often one deed was done, and what is being told of it.
pub(super) struct Tally {
    pub(super) story: Story,
    /// Neither told nor being told.
    pub(super) untold: Option<Sum>,
    pub(super) state: State,
    /// What was sent to the store, whose answer did not come: it is told again as it was, before anything else.
    pub(super) unsettled: Option<Arc<Told>>,
}

/// What a tally waits for.
pub(super) enum State {
    /// Its next time is there, and under that number among the times.
    Waiting(Turn, Last),
    Telling(Telling),
}

/// How the last telling ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Good,
    /// It failed, or there was none yet.
    Not,
}

/// A time, and a number that tells those of the same time apart.
pub(super) type Turn = (Instant, u64);

impl Tally {
    pub(super) fn count_one(&mut self, first: impl FnOnce() -> First) {
        match &mut self.untold {
            Some(sum) => sum.count = sum.count.saturating_add(1),
            None => self.untold = Some(Sum { first: first(), count: 1 }),
        }
    }

    pub(super) fn next(&mut self) -> Option<Arc<Told>> {
        let fresh = |sum| Arc::new(Told::new(self.story.clone(), sum));
        self.unsettled.take().or_else(|| self.untold.take().map(fresh))
    }

    /// What was not told, or perhaps was. The read that is refused for it does not count, unless it was perhaps told.
    pub(super) fn take_back(&mut self, told: &Arc<Told>, is_unknown: bool, is_for_reader: bool) {
        if is_unknown {
            self.unsettled = Some(Arc::clone(told));
            return;
        }
        let later = self.untold.as_ref().map_or(0, |sum| sum.count);
        let count = told.sum.count.saturating_add(later) - u64::from(is_for_reader);
        self.untold = (count > 0).then(|| Sum { first: told.sum.first.clone(), count });
    }

    pub(super) fn count(&self) -> u64 {
        let unsettled = self.unsettled.as_ref().map_or(0, |told| told.sum.count);
        self.untold.as_ref().map_or(0, |sum| sum.count).saturating_add(unsettled)
    }
}
