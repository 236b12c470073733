//! How often each deed was done and not yet told, in memory of a fixed size.
//!
//! A deed is told at once when it is new, and then at the end of each interval in which it was done again. After an
//! interval in which it was not, it is forgotten; at once, if there is no log to tell it to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{sync::oneshot, time::Instant};

use crate::ingest::IngestError;

use super::{
    deed::Deed,
    logless::Logless,
    shares::Shares,
    story::{First, Story, Sum, Told},
    tally::{Last, State, Tally, Telling, Turn},
};

/// The pause after what could not be told, if the interval is not shorter. For as long it is believed that there is no log.
const PAUSE: Duration = Duration::from_secs(5);

/// A telling that has to be done now.
pub(super) struct Begun {
    pub(super) told: Arc<Told>,
    pub(super) done: oneshot::Sender<Result<(), IngestError>>,
    pub(super) telling: Telling,
    deed: Arc<Deed>,
    /// It tells of a reader too, who is refused if it fails.
    pub(super) is_for_reader: bool,
    /// It was told before, and perhaps is in the log.
    is_repeat: bool,
}

/// What became of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is told with others, later.
    Counted,
    /// It is due now.
    New,
    /// There is nobody to tell it to.
    NoLog,
    /// It is lost.
    NoRoom,
}

/// What has to be done before a read is answered.
pub(super) enum Read {
    /// Nothing: its interval has an event, and it is counted.
    Counted,
    /// To tell it by itself.
    NoRoom,
    /// This; and if it does not tell of this read, to ask again.
    Begin(Begun),
    /// To wait for this, and to ask again.
    Wait(Telling),
}

/// What has to be done at some time.
pub(super) enum Due {
    /// This, now.
    Tell(Begun),
    /// Nothing, and there may be more: one was forgotten.
    Forgotten,
    /// Nothing before that time, if there is anything at all.
    Later(Option<Instant>),
}

/// All that is counted.
pub(super) struct Ledger {
    interval: Duration,
    tallies: HashMap<Arc<Deed>, Tally>,
    turns: BTreeMap<Turn, Arc<Deed>>,
    turns_given: u64,
    denials: Shares,
    reads: Shares,
    logless: Logless,
    is_closing: bool,
}

impl Ledger {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            tallies: HashMap::new(),
            turns: BTreeMap::new(),
            turns_given: 0,
            denials: Shares::of_denials(),
            reads: Shares::of_reads(),
            logless: Logless::default(),
            is_closing: false,
        }
    }

    /// One denial more.
    pub(super) fn note_denial(
        &mut self,
        deed: Deed,
        story: impl FnOnce() -> Story,
        first: impl FnOnce() -> First,
        now: Instant,
    ) -> Noted {
        if let Some(tally) = self.tallies.get_mut(&deed) {
            tally.count_one(first);
            return Noted::Counted;
        }
        if self.logless.knows(deed.scope.tenant(), now) {
            return Noted::NoLog;
        }
        if self.is_closing || !self.denials.take(&deed) {
            return Noted::NoRoom;
        }
        self.add(deed, story(), first(), now);
        Noted::New
    }

    /// One read more, if its interval has an event.
    pub(super) fn note_read(
        &mut self,
        deed: Deed,
        story: impl FnOnce() -> Story,
        first: impl FnOnce() -> First,
        now: Instant,
    ) -> Read {
        let deed = match self.tallies.get_key_value(&deed).map(|(known, _)| Arc::clone(known)) {
            Some(known) => known,
            None if self.is_closing || !self.reads.take(&deed) => return Read::NoRoom,
            None => {
                let deed = self.add(deed, story(), first(), now);
                return self.begin(&deed, true).map_or(Read::NoRoom, Read::Begin);
            }
        };
        let Some(tally) = self.tallies.get_mut(&deed) else { return Read::NoRoom };
        let (end, last) = match &tally.state {
            State::Telling(telling) => return Read::Wait(telling.clone()),
            State::Waiting((end, _), last) => (*end, *last),
        };
        let has_event = last == Last::Good && now < end;
        // What is told again as it was says nothing of this read, which has to ask once more then.
        let is_told_now = tally.unsettled.is_none();
        if has_event || is_told_now {
            tally.count_one(first);
        }
        if has_event {
            return Read::Counted;
        }
        self.begin(&deed, is_told_now).map_or(Read::NoRoom, Read::Begin)
    }

    /// The next one whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let next = self.turns.first_key_value().map(|((time, _), _)| *time);
        if next.is_some_and(|time| time > now) && !self.is_closing {
            return Due::Later(next);
        }
        let Some((_, deed)) = self.turns.pop_first() else { return Due::Later(None) };
        match self.begin(&deed, false) {
            Some(begun) => Due::Tell(begun),
            None => {
                self.forget(&deed);
                Due::Forgotten
            }
        }
    }

    /// The end of a telling: whether it is in a log now. Gives the number of denials that nobody will be told of any more.
    pub(super) fn settle(&mut self, begun: &Begun, result: &Result<bool, IngestError>, now: Instant) -> u64 {
        let Begun { deed, told, is_for_reader, is_repeat, .. } = begun;
        let pause = self.interval.min(PAUSE);
        match result {
            Ok(true) => self.wait(deed, now + self.interval, Last::Good),
            Ok(false) => {
                self.logless.remember(deed.scope.tenant(), now + pause);
                self.forget(deed);
            }
            Err(error) => {
                let is_unknown = *is_repeat || matches!(error, IngestError::OutcomeUnknown { .. });
                if let Some(tally) = self.tallies.get_mut(deed) {
                    tally.take_back(told, is_unknown, *is_for_reader);
                }
                self.wait(deed, now + pause, Last::Not);
            }
        }
        if self.is_closing { self.give_up(deed, result.is_err()) } else { 0 }
    }

    /// From now on everything is due, and nothing new is taken.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    /// The entries of all maps.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.tallies.len() + self.turns.len() + self.denials.entries() + self.reads.entries()
    }

    fn add(&mut self, deed: Deed, story: Story, first: First, now: Instant) -> Arc<Deed> {
        let deed = Arc::new(deed);
        let turn = self.give_turn(&deed, now);
        let (untold, state) = (Some(Sum { first, count: 1 }), State::Waiting(turn, Last::Not));
        self.tallies.insert(Arc::clone(&deed), Tally { story, untold, state, unsettled: None });
        deed
    }

    /// `None` where there is nothing to tell.
    fn begin(&mut self, deed: &Arc<Deed>, is_for_reader: bool) -> Option<Begun> {
        let tally = self.tallies.get_mut(deed)?;
        let is_repeat = tally.unsettled.is_some();
        let told = tally.next()?;
        let (done, telling) = oneshot::channel();
        let telling = telling.shared();
        if let State::Waiting(turn, _) = std::mem::replace(&mut tally.state, State::Telling(telling.clone())) {
            self.turns.remove(&turn);
        }
        Some(Begun { told, done, telling, deed: Arc::clone(deed), is_for_reader, is_repeat })
    }

    fn wait(&mut self, deed: &Arc<Deed>, until: Instant, last: Last) {
        let turn = self.give_turn(deed, until);
        if let Some(tally) = self.tallies.get_mut(deed) {
            tally.state = State::Waiting(turn, last);
        }
    }

    /// What is left when the service ends: it is tried again only if it has just gone well.
    fn give_up(&mut self, deed: &Arc<Deed>, has_failed: bool) -> u64 {
        let left = self.tallies.get(deed).map_or(0, Tally::count);
        if left > 0 && !has_failed {
            return 0;
        }
        self.forget(deed);
        if deed.is_denial { left } else { 0 }
    }

    fn give_turn(&mut self, deed: &Arc<Deed>, time: Instant) -> Turn {
        let turn = (time, self.turns_given);
        self.turns_given += 1;
        self.turns.insert(turn, Arc::clone(deed));
        turn
    }

    fn forget(&mut self, deed: &Arc<Deed>) {
        let Some(tally) = self.tallies.remove(deed) else { return };
        if let State::Waiting(turn, _) = tally.state {
            self.turns.remove(&turn);
        }
        let shares = if deed.is_denial { &mut self.denials } else { &mut self.reads };
        shares.give_back(deed);
    }
}
