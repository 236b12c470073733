//! Ends an export whose reader takes nothing.
//!
//! The transport asks for the next piece when there is room for it at the reader's end. A reader that never makes room
//! keeps the transport from asking, and so nothing that waits to be asked could ever end the export: it takes somebody
//! who looks at the clock.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{self, Instant};
use tonic::Status;

use super::{
    export_stream::{CsvStream, Hold},
    request_id::RequestId,
    status::Failure,
};
use crate::proto::google::api::HttpBody;

/// The pieces of an export, as long as somebody takes them.
pub struct WatchedStream {
    running: Arc<Mutex<Running>>,
    stall: Duration,
    request_id: RequestId,
}

struct Running {
    /// `None` when it was ended. What the export holds goes with it.
    stream: Option<(CsvStream, Hold)>,
    /// Since when it is the reader's turn; `None` while it is ours.
    readers_turn: Option<Instant>,
}

impl WatchedStream {
    /// Watches from now on.
    pub fn new(stream: CsvStream, hold: Hold, request_id: RequestId) -> Self {
        let stall = hold.stall;
        let running = Running { stream: Some((stream, hold)), readers_turn: Some(Instant::now()) };
        let running = Arc::new(Mutex::new(running));
        tokio::spawn(watch(Arc::downgrade(&running), stall));
        Self { running, stall, request_id }
    }
}

impl Stream for WatchedStream {
    type Item = Result<HttpBody, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut running = lock(&self.running);
        running.readers_turn = None;
        let Some((stream, _)) = &mut running.stream else {
            let status = Failure::Stalled(self.stall).into_status(&self.request_id);
            return Poll::Ready(Some(Err(status)));
        };
        let piece = stream.as_mut().poll_next(cx);
        running.readers_turn = piece.is_ready().then(Instant::now);
        piece
    }
}

/// Looks again and again, until the stream is no more. It looks at each time at which it could have to act.
async fn watch(running: Weak<Mutex<Running>>, stall: Duration) {
    let mut next = Instant::now() + stall;
    loop {
        time::sleep_until(next).await;
        let Some(running) = running.upgrade() else { return };
        let ended = {
            let mut running = lock(&running);
            next = running.readers_turn.unwrap_or_else(Instant::now) + stall;
            if next <= Instant::now() { running.stream.take() } else { None }
        };
        if let Some((stream, hold)) = ended {
            end(stream, &hold);
            return;
        }
    }
}

/// Dropping the stream records that the export did not come to its end. The transport still holds the piece that was not
/// taken; if nothing else goes on over the connection, it is closed, and that piece is gone too.
fn end(stream: CsvStream, hold: &Hold) {
    hold.reason.stalled();
    drop(stream);
    let closed = hold.on_connection.as_ref().is_some_and(|call| call.close_if_alone());
    tracing::warn!(stall = ?hold.stall, connection_closed = closed, "an export was ended, because its reader took nothing");
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
