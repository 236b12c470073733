//! What waits, in one line for each caller.
//!
//! A batch takes from each line in turn. While somebody is around who calls now and then, each caller gets a share of a
//! batch, so that batches stay short: what one caller has waiting, however much it is, then costs another no more than two
//! short batches, the one that is being committed and the one they are in. Where all have much waiting, as one who is
//! alone or several who load data, nobody would win by that, and batches are filled.

use std::collections::{HashMap, VecDeque};

use crate::model::{CallerKey, Callers};

use super::batch::{BatchBounds, Submission};

/// One caller's share of a batch while somebody is around who calls now and then: so small that a commit takes little longer
/// than one of a single entry. Whoever sends batches gets one of them, because they are never split.
const SHARE: BatchBounds = BatchBounds { entries: 4, bytes: 128 * 1024 };
/// Whoever has no more than so many entries waiting is somebody who calls now and then.
const SHORT: usize = 16;

/// The lines, and whose turn it is.
#[derive(Default)]
pub(super) struct Lines {
    /// None is empty.
    lines: HashMap<CallerKey, VecDeque<Submission>>,
    /// Each caller who has a line, once.
    turns: VecDeque<CallerKey>,
    /// Those with little waiting, here and at the other workers.
    callers: Callers,
}

/// What was taken so far, and how much it is.
#[derive(Default)]
struct Taken {
    submissions: Vec<Submission>,
    entries: usize,
    bytes: usize,
}

impl Lines {
    pub(super) fn new(callers: Callers) -> Self {
        Self { callers, ..Self::default() }
    }

    pub(super) fn add(&mut self, submission: Submission) {
        let line = self.lines.entry(submission.caller).or_default();
        if line.is_empty() {
            self.turns.push_back(submission.caller);
        }
        line.push_back(submission);
    }

    /// The next batch; empty where nothing waits.
    pub(super) fn take(&mut self, bounds: BatchBounds) -> Vec<Submission> {
        self.look_around();
        let mut taken = Taken::default();
        for _ in 0..self.turns.len() {
            let Some(caller) = self.turns.pop_front() else { break };
            let share = if self.callers.crowd().surrounds(caller) { SHARE } else { bounds };
            let before = taken.submissions.len();
            let rest = self.take_of(caller, share, bounds, &mut taken);
            match rest {
                Rest::Nothing => (),
                Rest::Some if taken.submissions.len() > before => self.turns.push_back(caller),
                // There was no room for any of theirs: they are the first of the next batch.
                Rest::Some => {
                    self.turns.push_front(caller);
                    break;
                }
            }
        }
        taken.submissions
    }

    fn look_around(&self) {
        let mut crowd = self.callers.crowd();
        crowd.tick();
        self.lines.iter().for_each(|(caller, line)| crowd.see(*caller, !is_short(line)));
    }

    /// Takes from one line as much as is due, and at least one submission if the batch has room for it.
    fn take_of(&mut self, caller: CallerKey, share: BatchBounds, bounds: BatchBounds, taken: &mut Taken) -> Rest {
        let Some(line) = self.lines.get_mut(&caller) else { return Rest::Nothing };
        let (mut own, mut is_first) = (Taken::default(), true);
        while let Some(next) = line.front() {
            if next.is_abandoned() {
                line.pop_front();
                continue;
            }
            if !taken.has_room(next, bounds) || !(is_first || own.has_room(next, share)) {
                return Rest::Some;
            }
            own.count(next);
            taken.count(next);
            is_first = false;
            taken.submissions.extend(line.pop_front());
        }
        self.lines.remove(&caller);
        Rest::Nothing
    }
}

/// Looks at no more of a line than it takes to tell.
fn is_short(line: &VecDeque<Submission>) -> bool {
    line.len() <= SHORT && line.iter().map(|waiting| waiting.entries.len()).sum::<usize>() <= SHORT
}

/// What is left of a line.
enum Rest {
    Nothing,
    Some,
}

impl Taken {
    fn has_room(&self, next: &Submission, bounds: BatchBounds) -> bool {
        let fits = self.entries + next.entries.len() <= bounds.entries && self.bytes + next.bytes <= bounds.bytes;
        fits || self.entries == 0
    }

    fn count(&mut self, next: &Submission) {
        self.entries += next.entries.len();
        self.bytes += next.bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        ingest::{batch::Answer, room::Room},
        model::{Actor, ActorType, Draft, Entry, EventId, IdOrigin, NoteDraft, Scope, Timestamp},
    };

    const WIDE: BatchBounds = BatchBounds { entries: 1000, bytes: 4 << 20 };

    /// Adds submissions, each with a number, and keeps those waiting who sent them.
    struct Senders {
        keys: Callers,
        room: Room,
        waiting: Vec<oneshot::Receiver<Answer>>,
    }

    impl Senders {
        fn new() -> Self {
            Self { keys: Callers::default(), room: Room::new(1 << 30), waiting: Vec::new() }
        }

        fn send(&mut self, lines: &mut Lines, caller: &str, number: usize, entries: usize, bytes: usize) {
            let actor = Actor { kind: ActorType::Service, id: caller.to_owned(), name: String::new() };
            let id = EventId::at(Timestamp::from_timestamp(0, 0).unwrap(), [0; 10]).unwrap();
            let text = |at| if at == 0 { format!("{caller} {number}|{}", "x".repeat(bytes)) } else { String::new() };
            let note = |at| NoteDraft { id, id_origin: IdOrigin::Client, event_id: id, text: text(at) };
            let entry = |at| Entry::new(Scope::new("a", None).unwrap(), actor.clone(), Draft::Note(note(at)), [0; 16]);
            let key = self.keys.key(&actor);
            let place = self.room.take(key, 1).unwrap_or_else(|error| panic!("{error}"));
            let (reply, answer) = oneshot::channel();
            self.waiting.push(answer);
            lines.add(Submission::new(key, (0..entries).map(entry).collect(), reply, place));
        }
    }

    /// Caller and number of each.
    fn names(batch: &[Submission]) -> Vec<String> {
        let name = |submission: &Submission| match &submission.entries[0].draft {
            Draft::Note(note) => note.text.split('|').next().unwrap().to_owned(),
            Draft::Event(_) => unreachable!("there are only notes"),
        };
        batch.iter().map(name).collect()
    }

    #[test]
    fn whoever_comes_is_in_the_next_batch_however_many_another_has_waiting() {
        let (mut lines, mut callers) = (Lines::default(), Senders::new());
        (0..3000).for_each(|n| callers.send(&mut lines, "flood", n, 1, 0));
        assert_eq!(lines.take(WIDE).len(), 1000, "who is alone may have all of it");
        callers.send(&mut lines, "ann", 0, 1, 0);
        let batch = names(&lines.take(WIDE));
        assert_eq!((batch.len(), batch.iter().filter(|name| *name == "ann 0").count()), (5, 1));
        // While she is around, batches stay short, so that she need not wait for a long one either.
        assert_eq!(lines.take(WIDE).len(), 4);
        let lengths: Vec<usize> = (0..254).map(|_| lines.take(WIDE).len()).collect();
        assert!(lengths.iter().all(|len| *len <= 8), "{lengths:?}");
        while !lines.take(WIDE).is_empty() {}
        (0..300).for_each(|n| callers.send(&mut lines, "flood", n, 1, 0));
        assert_eq!(lines.take(WIDE).len(), 300, "she has not come for a long time");
    }

    #[test]
    fn where_all_have_much_waiting_batches_are_filled() {
        let (mut lines, mut callers) = (Lines::default(), Senders::new());
        for n in 0..300 {
            callers.send(&mut lines, "ann", n, 1, 0);
            callers.send(&mut lines, "bob", n, 1, 0);
        }
        assert_eq!(lines.take(WIDE).len(), 600);
        // Just after that they have little waiting, and are not taken for somebody who calls now and then.
        callers.send(&mut lines, "bob", 300, 1, 0);
        assert_eq!(lines.take(WIDE).len(), 1);
        (0..300).for_each(|n| callers.send(&mut lines, "ann", n, 1, 0));
        assert_eq!(lines.take(WIDE).len(), 300);
    }

    #[test]
    fn large_ones_have_the_same_share_in_bytes_and_the_largest_goes_alone() {
        let (mut lines, mut callers) = (Lines::default(), Senders::new());
        (0..10).for_each(|n| callers.send(&mut lines, "flood", n, 1, 60_000));
        callers.send(&mut lines, "flood", 10, 2000, 0);
        callers.send(&mut lines, "ann", 0, 1, 0);
        assert_eq!(names(&lines.take(WIDE)), ["flood 0", "flood 1", "ann 0"]);
        (0..4).for_each(|_| assert_eq!(lines.take(WIDE).len(), 2));
        assert_eq!(names(&lines.take(WIDE)), ["flood 10"]);
        assert!(lines.take(WIDE).is_empty());
    }

    #[test]
    fn who_has_gone_away_is_passed_over() {
        let (mut lines, mut callers) = (Lines::default(), Senders::new());
        (0..5).for_each(|n| callers.send(&mut lines, "ann", n, 1, 0));
        callers.waiting.drain(1..4);
        assert_eq!(names(&lines.take(WIDE)), ["ann 0", "ann 4"]);
        callers.send(&mut lines, "ann", 5, 1, 0);
        callers.waiting.clear();
        assert!(lines.take(WIDE).is_empty() && lines.lines.is_empty() && lines.turns.is_empty());
    }

    proptest! {
        /// Nothing is lost or doubled, each caller's come in their order, batches keep their bounds, and the first in turn is
        /// never passed over.
        #[test]
        fn all_are_served_in_turn(
            sent in prop::collection::vec((0usize..6, 1usize..6), 1..120),
            (entries, between) in (3usize..40, 1usize..20),
        ) {
            let (mut lines, mut callers) = (Lines::default(), Senders::new());
            let bounds = BatchBounds { entries, bytes: 1 << 20 };
            let mut served: Vec<String> = Vec::new();
            let mut serve = |lines: &mut Lines| {
                let waiting: Vec<CallerKey> = lines.turns.iter().copied().collect();
                let batch = lines.take(bounds);
                let size: usize = batch.iter().map(|submission| submission.entries.len()).sum();
                assert!(size <= entries || batch.len() == 1, "{size} of {entries}");
                assert!(batch.first().is_none_or(|first| first.caller == waiting[0]), "the first in turn was passed over");
                served.extend(names(&batch));
                batch.len()
            };
            for (n, (caller, size)) in sent.iter().enumerate() {
                callers.send(&mut lines, &caller.to_string(), n, *size, 0);
                if n % between == 0 {
                    serve(&mut lines);
                }
            }
            while serve(&mut lines) > 0 {}
            for caller in 0..6 {
                let of = |names: &mut dyn Iterator<Item = String>| names.filter(|name| name.starts_with(&format!("{caller} "))).collect::<Vec<_>>();
                let mut all = sent.iter().enumerate().map(|(n, (caller, _))| format!("{caller} {n}"));
                prop_assert_eq!(of(&mut served.iter().cloned()), of(&mut all));
            }
        }
    }
}
