//! Taking from the queue: whatever is waiting, and never waiting for more.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::model::{Entry, Receipt};

use super::handle::IngestError;

/// What is sent to the worker.
pub(super) enum Message {
    Append(Submission),
    Close,
}

/// One caller's entries, and where the answer goes.
pub(super) struct Submission {
    pub(super) entries: Vec<Entry>,
    bytes: usize,
    reply: oneshot::Sender<Result<Vec<Receipt>, IngestError>>,
    /// The room that it takes in the queue.
    room: OwnedSemaphorePermit,
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
    /// Taken from the queue, and too much for the last batch.
    held: Option<Submission>,
}

impl Submission {
    pub(super) fn new(
        entries: Vec<Entry>,
        reply: oneshot::Sender<Result<Vec<Receipt>, IngestError>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let bytes = entries.iter().map(Entry::encoded_bound).sum();
        Self { entries, bytes, reply, room }
    }

    pub(super) fn answer(self, answer: Result<Vec<Receipt>, IngestError>) {
        // First, so that a caller who has the answer and calls again is not refused for their own call before.
        drop(self.room);
        // A caller that is gone asks again with the same ids, and gets the same receipts.
        let _ = self.reply.send(answer);
    }
}

impl Queue {
    pub(super) fn new(messages: mpsc::UnboundedReceiver<Message>, bounds: BatchBounds) -> Self {
        Self { messages, bounds, held: None }
    }

    /// Waits for one submission, then takes what else is there. `None` once the queue is closed and empty.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Submission>> {
        let first = self.held.take().or_else(|| self.wait())?;
        let (mut entries, mut bytes) = (first.entries.len(), first.bytes);
        let mut batch = vec![first];
        while let Some(next) = self.waiting() {
            entries += next.entries.len();
            bytes += next.bytes;
            if entries > self.bounds.entries || bytes > self.bounds.bytes {
                self.held = Some(next);
                break;
            }
            batch.push(next);
        }
        Some(batch)
    }

    fn wait(&mut self) -> Option<Submission> {
        loop {
            let message = self.messages.blocking_recv()?;
            if let Some(submission) = self.open(message) {
                return Some(submission);
            }
        }
    }

    fn waiting(&mut self) -> Option<Submission> {
        loop {
            let message = self.messages.try_recv().ok()?;
            if let Some(submission) = self.open(message) {
                return Some(submission);
            }
        }
    }

    /// Passes over callers that have gone away: nobody was told anything.
    fn open(&mut self, message: Message) -> Option<Submission> {
        match message {
            Message::Append(submission) => (!submission.reply.is_closed()).then_some(submission),
            Message::Close => {
                self.messages.close();
                None
            }
        }
    }
}
