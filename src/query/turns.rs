//! Whose turn it is to read.
//!
//! As many read at a time as there are connections for it, and who waits waits in a line of their own, each line served in
//! turn. While somebody is around who reads or records now and then, each caller has a share of the connections, so that a newcomer
//! finds a free one, and processors that are not all busy with somebody else's reads. Else they are all in use.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::model::{CallerKey, Callers, Crowd};

/// A share is the total divided by this, and one at least.
const SHARES: usize = 4;

/// The turns. Clones share them.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    total: usize,
    /// Who reads, and how many times at once. None is zero.
    reading: HashMap<CallerKey, usize>,
    /// None is empty.
    lines: HashMap<CallerKey, VecDeque<oneshot::Sender<Turn>>>,
    /// Each caller who has a line, once.
    order: VecDeque<CallerKey>,
    /// Those who want no more than a share.
    crowd: Crowd,
    /// Those who record, whom reads cost processor time, too.
    recorders: Callers,
}

/// The right to read once, handed on when it is dropped.
pub(super) struct Turn {
    turns: Turns,
    caller: CallerKey,
    hands_on: bool,
}

impl Turn {
    /// Does the last part of a read. Whatever is called later keeps the turn for as long, because it holds it.
    pub(super) fn during<T>(&self, read: impl FnOnce() -> T) -> T {
        read()
    }
}

impl Turns {
    pub(super) fn new(total: usize, recorders: Callers) -> Self {
        let (reading, lines, order, crowd) = Default::default();
        Self(Arc::new(Mutex::new(State { total, reading, lines, order, crowd, recorders })))
    }

    /// Waits for a turn of `caller`.
    pub(super) async fn take(&self, caller: CallerKey) -> Turn {
        let (sender, turn) = oneshot::channel();
        self.lock().wait(caller, sender);
        self.hand_on();
        turn.await.expect("a line keeps each sender until it sends a turn")
    }

    /// Gives turns to those who may have one now. Turns of those who have gone away come back and are handed on as well.
    fn hand_on(&self) {
        loop {
            let Some((caller, sender)) = self.lock().next() else { return };
            let turn = Turn { turns: self.clone(), caller, hands_on: true };
            if let Err(mut turn) = sender.send(turn) {
                // Handed on by this loop: by itself it would come here once more, and the next one, and so on, as deep as
                // there are callers who have gone away.
                turn.hands_on = false;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, caller: CallerKey, sender: oneshot::Sender<Turn>) {
        let (share, reading) = (self.share(), self.reading.get(&caller).copied().unwrap_or(0));
        let line = self.lines.entry(caller).or_default();
        if line.is_empty() {
            self.order.push_back(caller);
        }
        if line.len() == line.capacity() {
            // Before it grows, so that callers who come and go away again take no memory to speak of.
            line.retain(|sender| !sender.is_closed());
        }
        line.push_back(sender);
        self.crowd.tick();
        let wants_much = reading + line.len() > share;
        self.crowd.see(caller, wants_much);
        // Else those who recorded last would seem to be around for as long as nobody records.
        self.recorders.crowd().tick();
    }

    /// The first of the first line whose caller may read more.
    fn next(&mut self) -> Option<(CallerKey, oneshot::Sender<Turn>)> {
        if self.reading.values().sum::<usize>() >= self.total {
            return None;
        }
        let at = self.order.iter().position(|caller| self.may_read(*caller))?;
        let caller = self.order.remove(at)?;
        let line = self.lines.get_mut(&caller)?;
        let sender = line.pop_front()?;
        match line.is_empty() {
            true => drop(self.lines.remove(&caller)),
            false => self.order.push_back(caller),
        }
        *self.reading.entry(caller).or_default() += 1;
        Some((caller, sender))
    }

    fn share(&self) -> usize {
        (self.total / SHARES).max(1)
    }

    fn may_read(&self, caller: CallerKey) -> bool {
        let is_alone = !self.crowd.surrounds(caller) && !self.recorders.crowd().surrounds(caller);
        let most = if is_alone { self.total } else { self.share() };
        self.reading.get(&caller).is_none_or(|reading| *reading < most)
    }

    fn end(&mut self, caller: CallerKey) {
        if let Some(reading) = self.reading.get_mut(&caller) {
            *reading -= 1;
            if *reading == 0 {
                self.reading.remove(&caller);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().end(self.caller);
        if self.hands_on {
            self.turns.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::*;
    use crate::model::{Actor, ActorType};

    struct Bench {
        turns: Turns,
        recorders: Callers,
    }

    impl Bench {
        fn new(total: usize) -> Self {
            let recorders = Callers::default();
            Self { turns: Turns::new(total, recorders.clone()), recorders }
        }

        fn ask(&self, caller: &str) -> BoxFuture<'static, Turn> {
            let actor = Actor { kind: ActorType::User, id: caller.to_owned(), name: String::new() };
            let (turns, key) = (self.turns.clone(), self.recorders.key(&actor));
            let mut asked = async move { turns.take(key).await }.boxed();
            match asked.as_mut().now_or_never() {
                Some(turn) => async { turn }.boxed(),
                None => asked,
            }
        }
    }

    fn got(asked: &mut BoxFuture<'static, Turn>) -> Option<Turn> {
        asked.now_or_never()
    }

    #[test]
    fn a_newcomer_is_next_however_many_of_another_wait() {
        let bench = Bench::new(8);
        let mut flood: Vec<_> = (0..100).map(|_| bench.ask("flood")).collect();
        let mut reading: Vec<Turn> = flood.iter_mut().map_while(got).collect();
        assert_eq!(reading.len(), 8, "who is alone may have all of it");
        flood.drain(..8);
        let mut ann = bench.ask("ann");
        assert!(got(&mut ann).is_none());
        reading.pop();
        let ann = got(&mut ann).unwrap();
        // While she is around, the flood shrinks to its share, and the next time she need not wait.
        reading.drain(..5);
        assert!(got(&mut flood[0]).is_none());
        drop(ann);
        let mut again = bench.ask("ann");
        assert!(got(&mut again).is_some());
        reading.clear();
        assert_eq!(flood.iter_mut().map_while(got).count(), 92, "each passes its turn on");
    }

    #[test]
    fn a_crowd_that_has_gone_away_is_passed_over_and_takes_no_memory() {
        let bench = Bench::new(1);
        let first = got(&mut bench.ask("ann")).unwrap();
        // Far more than would fit on the stack, one in the other.
        let crowd: Vec<_> = (0..100_000).map(|_| bench.ask("bob")).collect();
        let mut last = bench.ask("bob");
        drop(crowd);
        drop(first);
        assert!(got(&mut last).is_some());
        let first = got(&mut bench.ask("ann")).unwrap();
        (0..100_000).for_each(|_| drop(bench.ask("bob")));
        assert!(bench.turns.lock().lines.values().all(|line| line.len() <= 64));
        drop(first);
    }

    #[test]
    fn who_reads_much_leaves_room_to_somebody_who_records() {
        let bench = Bench::new(8);
        let records = |caller: u32| {
            let actor = Actor { kind: ActorType::User, id: caller.to_string(), name: String::new() };
            bench.recorders.crowd().see(bench.recorders.key(&actor), false);
        };
        records(1);
        let mut flood: Vec<_> = (0..100).map(|_| bench.ask("flood")).collect();
        assert_eq!(flood.iter_mut().map_while(got).collect::<Vec<_>>().len(), 2);
        drop(flood);
        // It is told by reads, too, that time goes on.
        (0..300).for_each(|_| drop(bench.ask("flood")));
        let mut flood: Vec<_> = (0..100).map(|_| bench.ask("flood")).collect();
        assert_eq!(flood.iter_mut().map_while(got).collect::<Vec<_>>().len(), 8);
    }

    #[test]
    fn a_turn_is_not_lost_with_somebody_who_leaves() {
        let bench = Bench::new(1);
        let first = got(&mut bench.ask("ann")).unwrap();
        let (left, mut other, mut also_left) = (bench.ask("bob"), bench.ask("eve"), bench.ask("bob"));
        drop(left);
        drop(first);
        let turn = got(&mut other).unwrap();
        assert!(got(&mut also_left).is_none());
        drop(also_left);
        drop(turn);
        assert!(got(&mut bench.ask("ann")).is_some());
        let state = bench.turns.lock();
        assert!(state.reading.is_empty() && state.lines.is_empty() && state.order.is_empty());
    }
}
