//! The body of a reply, and what is held for it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body, codegen::Bytes};

pin_project! {
    /// A body that holds something until the last of its bytes has been sent or dropped. Not until the transport has taken
    /// them all, because that takes a whole reply where its reader makes room for one byte.
    struct HoldingBody<H> {
        #[pin]
        body: Body,
        held: Arc<H>,
    }
}

/// Bytes, and what is held for them.
struct Held<H> {
    bytes: Bytes,
    _held: Arc<H>,
}

impl<H> AsRef<[u8]> for Held<H> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Holds `held` for as long as there is anything of `body`.
pub(super) fn hold(body: Body, held: impl Send + Sync + 'static) -> Body {
    Body::new(HoldingBody { body, held: Arc::new(held) })
}

impl<H: Send + Sync + 'static> HttpBody for HoldingBody<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let hold = |bytes| Bytes::from_owner(Held { bytes, _held: Arc::clone(this.held) });
        this.body.poll_frame(cx).map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
