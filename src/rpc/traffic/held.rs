//! The body of a reply, and what is held for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body, codegen::Bytes};

pin_project! {
    /// A body that holds something until the transport drops it: when its reader has taken the last of it, or has gone.
    pub(super) struct HeldBody<H> {
        #[pin]
        body: Body,
        _held: H,
    }
}

/// Holds `held` for as long as there is `body`.
pub(super) fn hold(body: Body, held: impl Send + 'static) -> Body {
    Body::new(HeldBody { body, _held: held })
}

impl<H> HttpBody for HeldBody<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
