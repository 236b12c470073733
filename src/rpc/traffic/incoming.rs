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

/// At the least so much room is taken at once.
const STEP_BYTES: usize = 64 * 1024;

pin_project! {
    /// A request that is handed on once all of it is there, without trailers. tonic decodes a message as soon as it is whole, and
    /// then waits for the end of the stream: what a caller leaves open would lie there decoded, which can take hundreds of
    /// times of its bytes.
    pub(super) struct Whole {
        #[pin]
        body: Body,
        held: BytesMut,
        has_ended: bool,
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
}

impl Meter {
    pub(super) fn new(budget: Budget, slot: OwnSlot) -> Self {
        Self { budget, slot, bytes: 0, covered: UNCOUNTED_BYTES, rooms: Vec::new() }
    }

    /// In steps that grow with what there is, so that they stay few.
    fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.bytes > self.covered {
            let step = (self.bytes - self.covered).max(self.covered / 4).max(STEP_BYTES);
            let busy = || {
                Failure::busy("too much of your requests is still coming in; nothing was done, send fewer at a time")
            };
            self.rooms.push(self.budget.take(self.slot.clone(), step).ok_or_else(busy)?);
            self.covered += step;
        }
        Ok(())
    }
}

impl Whole {
    pub(super) fn new(body: Body, meter: Meter, id: RequestId) -> Self {
        Self { body, held: BytesMut::new(), has_ended: false, meter, id }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        while !*this.has_ended {
            match ready!(this.body.as_mut().poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    this.meter.add(data.len()).map_err(|failure| failure.into_status(this.id))?;
                    *this.has_ended = this.body.is_end_stream();
                    // Most come in one piece, which needs no copy.
                    if *this.has_ended && this.held.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    this.held.extend_from_slice(&data);
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
