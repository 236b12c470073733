//! Recording any number of events, one batch after the other.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::ReadyChunks};

use super::{
    batch,
    emitter::Emitter,
    error::{ClientError, NotRecorded},
    event::NewEvent,
    receipt::Receipt,
};

/// What [`Emitter::record_all`] does, as a stream: each item is what became of one batch. Nothing happens until it is polled.
#[must_use = "nothing is recorded until it is polled"]
pub struct RecordAll<S: Stream> {
    emitter: Emitter,
    parent: String,
    source: ReadyChunks<Pin<Box<S>>>,
    /// What was taken from the source and not yet sent.
    due: VecDeque<Vec<NewEvent>>,
    call: Option<Call>,
}

/// One batch that is under way.
struct Call {
    events: Arc<Vec<NewEvent>>,
    outcome: BoxFuture<'static, Result<Vec<Receipt>, ClientError>>,
}

impl<S: Stream<Item = NewEvent>> RecordAll<S> {
    pub(super) fn new(emitter: &Emitter, parent: &str, source: S) -> Self {
        Self {
            emitter: emitter.clone(),
            parent: parent.to_owned(),
            source: Box::pin(source).ready_chunks(emitter.batch_limits().events),
            due: VecDeque::new(),
            call: None,
        }
    }

    /// Stops, and gives back all events that were taken from the source and of which no item has told, in their order. Those
    /// of a batch that was under way are among them, and may be recorded. They keep their ids: send them again, and each is
    /// recorded once.
    ///
    /// What was not yet taken stays in the source, which goes with this unless it was lent (`&mut source`).
    pub fn into_pending(self) -> Vec<NewEvent> {
        // Its half of the events goes with the call, so that they need not be copied.
        let under_way = self.call.map(|Call { events, outcome }| {
            drop(outcome);
            events
        });
        under_way.map(Arc::unwrap_or_clone).into_iter().chain(self.due).flatten().collect()
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<NewEvent>>> {
        while self.due.is_empty() {
            let Some(events) = ready!(self.source.poll_next_unpin(cx)) else { return Poll::Ready(None) };
            self.due = batch::split(&self.parent, events, self.emitter.batch_limits()).into();
        }
        Poll::Ready(self.due.pop_front())
    }

    fn begin(&self, events: Vec<NewEvent>) -> Call {
        let (emitter, parent, events) = (self.emitter.clone(), self.parent.clone(), Arc::new(events));
        let sent = Arc::clone(&events);
        Call { events, outcome: async move { emitter.record_batch(&parent, &sent).await }.boxed() }
    }
}

impl Call {
    fn end(self, outcome: Result<Vec<Receipt>, ClientError>) -> Result<Vec<Receipt>, NotRecorded> {
        let Self { events, outcome: done } = self;
        drop(done);
        outcome.map_err(|error| NotRecorded { events: Arc::unwrap_or_clone(events), error })
    }
}

impl<S: Stream<Item = NewEvent>> Stream for RecordAll<S> {
    type Item = Result<Vec<Receipt>, NotRecorded>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut call = match this.call.take() {
            Some(call) => call,
            None => match ready!(this.poll_batch(cx)) {
                Some(events) => this.begin(events),
                None => return Poll::Ready(None),
            },
        };
        match call.outcome.poll_unpin(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(call.end(outcome))),
            Poll::Pending => {
                this.call = Some(call);
                Poll::Pending
            }
        }
    }
}
