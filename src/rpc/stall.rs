//! Ends an export whose reader takes nothing, and every one that is left when the service ends.
//!
//! The transport asks for a piece, keeps it until there is room for it at the reader's end, and then asks for the next one
//! (hyper 1.12, proto/h2/mod.rs, `PipeToSendStream`). A reader that never makes room keeps the transport from asking, and so
//! nothing that waits to be asked could ever end the export: it takes somebody who looks at the clock. That goes on after the
//! last piece was handed over, until its last byte is sent.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{self, Instant};
use tonic::Status;

use super::{
    export_stream::{CsvStream, Hold},
    listener::CallOnConnection,
    request_id::RequestId,
    status::Failure,
    traffic::{ExportPlace, ExportShare, ReplyRoom},
};
use crate::{export::Interruption, proto::google::api::HttpBody};

/// The pieces of an export, as long as somebody takes them.
pub struct WatchedStream {
    course: Arc<Course>,
    request_id: RequestId,
}

/// An export on its way: to be kept until its bytes are sent.
pub struct Course {
    state: Mutex<State>,
    turn: Arc<Turn>,
    interruption: Interruption,
    /// Where nothing more is made, what was made may wait in memory for as long as the connection is there.
    _room: ReplyRoom,
}

/// Since when it is the reader's turn; `None` while it is ours.
struct Turn(Mutex<Option<Instant>>);

struct State {
    /// `None` when no more pieces are made.
    stream: Option<CsvStream>,
    /// Its place among the exports, and on its connection; `None` when it was ended.
    places: Option<(ExportPlace, Option<CallOnConnection>)>,
    /// Why it was ended, until its reader is told.
    failure: Option<Failure>,
    /// Of whoever waits for a piece.
    waker: Option<Waker>,
}

impl WatchedStream {
    /// Watches from now on.
    pub fn new(stream: CsvStream, hold: Hold, request_id: RequestId) -> Self {
        let Hold { share: ExportShare { place, room }, on_connection, stall, interruption } = hold;
        let places = Some((place, on_connection));
        let state = State { stream: Some(stream), places, failure: None, waker: None };
        let turn = Arc::new(Turn(Mutex::new(Some(Instant::now()))));
        let course =
            Arc::new(Course { state: Mutex::new(state), turn, interruption: interruption.clone(), _room: room });
        tokio::spawn(watch(Arc::downgrade(&course), stall, interruption));
        Self { course, request_id }
    }

    /// What has to be kept until the last byte is sent.
    pub fn course(&self) -> Arc<Course> {
        Arc::clone(&self.course)
    }
}

impl Stream for WatchedStream {
    type Item = Result<HttpBody, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.course.lock();
        let Some(stream) = &mut state.stream else {
            let failure = state.failure.take();
            return Poll::Ready(failure.map(|failure| Err(failure.into_status(&self.request_id))));
        };
        let turn = &self.course.turn;
        turn.set_ours();
        let nudge = Waker::from(Arc::new(Nudge { turn: Arc::clone(turn), waker: cx.waker().clone() }));
        let piece = stream.as_mut().poll_next(&mut Context::from_waker(&nudge));
        if piece.is_ready() {
            turn.set_readers();
        }
        state.waker = piece.is_pending().then(|| cx.waker().clone());
        piece
    }
}

impl Turn {
    fn set_ours(&self) {
        *self.lock() = None;
    }

    fn set_readers(&self) {
        self.lock().get_or_insert_with(Instant::now);
    }

    fn since(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whoever waits for a piece. From then on it is the reader's turn: whoever is woken asks for the piece at once, unless
/// the one before waits for room at the reader's end.
struct Nudge {
    turn: Arc<Turn>,
    waker: Waker,
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.turn.set_readers();
        self.waker.wake_by_ref();
    }
}

/// All pieces were made, or the client has left.
impl Drop for WatchedStream {
    fn drop(&mut self) {
        let stream = self.course.lock().stream.take();
        drop(stream);
    }
}

impl Course {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, if its reader has taken nothing for as long as `stall`; else when to look again.
    fn end_if_stalled(&self, stall: Duration) -> Option<Instant> {
        let next = self.turn.since().unwrap_or_else(Instant::now) + stall;
        if next > Instant::now() {
            return Some(next);
        }
        self.interruption.stalled();
        if let Some(on_connection) = self.end(Failure::Stalled(stall)) {
            // The transport still holds what was not taken; with the connection that is gone, too.
            let closed = on_connection.is_some_and(|call| call.close_if_alone());
            tracing::warn!(?stall, connection_closed = closed, "an export was ended, because its reader took nothing");
        }
        None
    }

    /// Dropping the stream records that the export did not come to its end. Its place is given back before, so that whoever
    /// learns of the end from the log can begin anew. Gives what it was on its connection; `None` if it was ended before.
    fn end(&self, failure: Failure) -> Option<Option<CallOnConnection>> {
        let (stream, places, waker) = {
            let mut state = self.lock();
            state.failure = state.stream.is_some().then_some(failure);
            (state.stream.take(), state.places.take(), state.waker.take())
        };
        let (place, on_connection) = places?;
        drop(place);
        drop(stream);
        waker.into_iter().for_each(Waker::wake);
        Some(on_connection)
    }
}

/// Looks again and again, until the export is no more. It looks at each time at which it could have to act.
async fn watch(course: Weak<Course>, stall: Duration, interruption: Interruption) {
    let mut next = Instant::now() + stall;
    loop {
        let is_last = tokio::select! {
            () = time::sleep_until(next) => false,
            () = interruption.is_due() => true,
        };
        let Some(course) = course.upgrade() else { return };
        if is_last {
            course.end(Failure::CutOff);
            return;
        }
        match course.end_if_stalled(stall) {
            Some(time) => next = time,
            None => return,
        }
    }
}
