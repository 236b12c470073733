//! What is held for a reply until its bytes are sent.

use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body, codegen::Bytes};

/// What is held for one reply; among its extensions until [`hold_until_sent`] takes it from there.
#[derive(Clone, Default)]
struct UntilSent(Vec<Held>);

type Held = Arc<dyn Any + Send + Sync>;

/// Has `held` kept until the last byte of the reply with these extensions has been sent or dropped.
pub fn keep_until_sent(extensions: &mut Extensions, held: Arc<impl Send + Sync + 'static>) {
    extensions.get_or_insert_default::<UntilSent>().0.push(held);
}

/// Ties what is held for a reply to its bytes. To be done outside of whatever writes the bytes anew: gRPC-Web does, as text.
pub fn hold_until_sent(mut reply: Response<Body>) -> Response<Body> {
    match reply.extensions_mut().remove::<UntilSent>() {
        Some(held) => reply.map(|body| Body::new(HoldingBody { body, held: Arc::new(held) })),
        None => reply,
    }
}

pin_project! {
    /// A body that holds something until the last of its bytes has been sent or dropped. Not until the transport has taken
    /// them all, because that takes a whole reply where its reader makes room for one byte.
    struct HoldingBody {
        #[pin]
        body: Body,
        held: Arc<UntilSent>,
    }
}

/// Bytes, and what is held for them.
struct HeldBytes {
    bytes: Bytes,
    _held: Arc<UntilSent>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for HoldingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let hold = |bytes| Bytes::from_owner(HeldBytes { bytes, _held: Arc::clone(this.held) });
        this.body.poll_frame(cx).map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
