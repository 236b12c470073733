//! Taking from the queue: whatever is waiting, and never waiting for more.

use tokio::sync::{mpsc, oneshot};

use crate::model::{CallerKey, Callers, Entry, Receipt};

use super::{handle::IngestError, lines::Lines, room::Place};

/// What is sent to the worker.
pub(super) enum Message {
    Append(Submission),
    Close,
}

/// What a caller is told. The entries go back with it: everybody waits for the worker, and nobody for a caller who takes
/// apart what they have made.
pub(super) type Answer = (Result<Vec<Receipt>, IngestError>, Vec<Entry>);

/// One caller's entries, and where the answer goes.
pub(super) struct Submission {
    pub(super) caller: CallerKey,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    /// Whether an attempt has left it open if it is stored. Only one that stores it, or finds it, can tell otherwise.
    pub(super) is_unknown: bool,
    reply: oneshot::Sender<Answer>,
    /// The room that it takes in the queue.
    place: Place,
}

/// How much goes into one transaction. A submission that is larger goes alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchBounds {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// The worker's end of the queue.
pub(super) struct Queue {
    messages: mpsc::UnboundedReceiver<Message>,
    bounds: BatchBounds,
    lines: Lines,
}

impl Submission {
    pub(super) fn new(caller: CallerKey, entries: Vec<Entry>, reply: oneshot::Sender<Answer>, place: Place) -> Self {
        let bytes = entries.iter().map(Entry::encoded_bound).sum();
        Self { caller, entries, bytes, is_unknown: false, reply, place }
    }

    pub(super) fn answer(self, answer: Result<Vec<Receipt>, IngestError>) {
        // First, so that a caller who has the answer and calls again is not refused for their own call before.
        drop(self.place);
        // A caller that is gone asks again with the same ids, and gets the same receipts.
        let _ = self.reply.send((answer, self.entries));
    }

    /// Whose log all of it is for.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.entries.first().map(|entry| entry.scope.tenant())
    }

    /// Whether nobody waits for the answer any more, and nobody was told anything.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Queue {
    pub(super) fn new(messages: mpsc::UnboundedReceiver<Message>, bounds: BatchBounds, callers: Callers) -> Self {
        Self { messages, bounds, lines: Lines::new(callers) }
    }

    /// Waits for one submission, then takes what else is there, of each caller in turn. `None` once the queue is closed and
    /// empty.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Submission>> {
        loop {
            while let Ok(message) = self.messages.try_recv() {
                self.open(message);
            }
            let batch = self.lines.take(self.bounds);
            if !batch.is_empty() {
                return Some(batch);
            }
            let message = self.messages.blocking_recv()?;
            self.open(message);
        }
    }

    fn open(&mut self, message: Message) {
        match message {
            Message::Append(submission) => self.lines.add(submission),
            Message::Close => self.messages.close(),
        }
    }
}
