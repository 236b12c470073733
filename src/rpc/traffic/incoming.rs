//! Requests that come in. Each of our methods takes one message.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::bytes::BytesMut;
use tonic::{Status, body::Body, codegen::Bytes};

use super::{
    UNCOUNTED_BYTES,
    room::{Budget, Room},
    slots::OwnSlot,
};
use crate::rpc::{request_id::RequestId, status::Failure};

/// What is before a message: whether it is compressed, and how many bytes it has.
pub(super) const PREFIX_BYTES: usize = 5;
/// So much room is taken at once, if there is so much.
const STEP_BYTES: usize = 64 * 1024;

pin_project! {
    /// A request that is handed on once all of it is there, without trailers. tonic decodes a message as soon as it is whole, and
    /// then waits for the end of the stream: what a caller leaves open would lie there decoded, which can take hundreds of
    /// times of its bytes. One that says itself that it is larger than any may be is handed on at once: tonic refuses it for that.
    pub(super) struct Whole {
        #[pin]
        body: Body,
        held: BytesMut,
        has_ended: bool,
        is_too_large: bool,
        meter: Meter,
        id: RequestId,
    }
}

/// Finds room for what has come in of a request.
pub(super) struct Meter {
    budget: Budget,
    slot: OwnSlot,
    bytes: usize,
    /// How much there is room for.
    covered: usize,
    rooms: Vec<Room>,
    largest_message: usize,
}

impl Meter {
    pub(super) fn new(budget: Budget, slot: OwnSlot, largest_message: usize) -> Self {
        Self { budget, slot, bytes: 0, covered: UNCOUNTED_BYTES, rooms: Vec::new(), largest_message }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        match self.bytes.checked_sub(self.covered) {
            None | Some(0) => Ok(()),
            Some(needed) => self.cover(needed),
        }
    }

    /// In steps that grow with what there is, so that they stay few; where there is no room for one, with what it takes.
    fn cover(&mut self, needed: usize) -> Result<(), Failure> {
        // Room is counted in KiB: what is paid for should be covered.
        let needed = needed.next_multiple_of(1024);
        let step = needed.max(self.covered / 4).max(STEP_BYTES);
        let taken = [step, needed].into_iter().find_map(|step| Some((step, self.take(step)?)));
        let busy =
            || Failure::busy("too much of your requests is still coming in; nothing was done, send fewer at a time");
        let (step, room) = taken.ok_or_else(busy)?;
        self.covered += step;
        self.rooms.push(room);
        Ok(())
    }

    fn take(&self, bytes: usize) -> Option<Room> {
        self.budget.take(self.slot.clone(), bytes)
    }

    /// Whether a message that begins so has more bytes than any may. Of one that does not begin well tonic says so.
    fn is_too_large(&self, beginning: &[u8]) -> bool {
        let prefix = beginning.first_chunk::<PREFIX_BYTES>();
        prefix.is_some_and(|[_, length @ ..]| u32::from_be_bytes(*length) as usize > self.largest_message)
    }
}

impl Whole {
    pub(super) fn new(body: Body, meter: Meter, id: RequestId) -> Self {
        Self { body, held: BytesMut::new(), has_ended: false, is_too_large: false, meter, id }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        while !*this.has_ended && !*this.is_too_large {
            match ready!(this.body.as_mut().poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    this.meter.add(data.len()).map_err(|failure| failure.into_status(this.id))?;
                    *this.has_ended = this.body.is_end_stream();
                    // Most come in one piece, which needs no copy.
                    if *this.has_ended && this.held.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    this.held.extend_from_slice(&data);
                    *this.is_too_large = this.meter.is_too_large(this.held);
                }
                Some(Err(_trailers)) => (),
                None => *this.has_ended = true,
            }
        }
        let whole = this.held.split().freeze();
        Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && (self.has_ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
