//! One span and one log line for each call.
//!
//! A gRPC call ends in its trailers, not in its response head, and a call whose reader goes away ends in no trailers at
//! all. So the line is written by a value that travels from the request through the response's body and speaks when it
//! is dropped, wherever that happens.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Span, field::Empty};

use super::request_id::RequestId;
use crate::{
    metrics::Metrics,
    proto::auditlog::v1::ErrorReason,
    telemetry::{self, trace_parent::TraceParent},
};

/// The paths of health checks and reflection begin with it. They come often and tell little.
const PLUMBING: &str = "/grpc.";
/// The most bytes of a path that are logged: ours are shorter, a stranger's may be anything.
const MAX_METHOD_BYTES: usize = 128;

/// Adds [`LogAccess`] to a service.
#[derive(Clone, Debug)]
pub struct AccessLogLayer {
    /// What counts the calls.
    pub metrics: Metrics,
}

/// Runs each call in a span of its own, counts it, and logs its end.
#[derive(Clone, Debug)]
pub struct LogAccess<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = LogAccess<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LogAccess { inner, metrics: self.metrics.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for LogAccess<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<LoggedBody<B>>;
    type Error = S::Error;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let trace_parent = TraceParent::of(request.headers());
        let line = Line::begin(&request, trace_parent, self.metrics.clone());
        request.extensions_mut().insert(self.metrics.clone());
        if let Some(trace_parent) = trace_parent {
            request.extensions_mut().insert(trace_parent);
        }
        let future = line.span.in_scope(|| self.inner.call(request));
        Logged { future, line: Some(line) }
    }
}

/// The log line of a call that is under way.
#[derive(Debug)]
struct Line {
    span: Span,
    uri: Uri,
    metrics: Metrics,
    begun: Instant,
    /// Cancelled, until the call has ended in another way.
    code: Code,
}

impl Line {
    fn begin<A>(request: &Request<A>, trace_parent: Option<TraceParent>, metrics: Metrics) -> Self {
        let uri = request.uri().clone();
        let method = method(&uri);
        let request_id = RequestId::of(request.extensions());
        // At level error, so that whatever is logged within has its fields also where less is logged.
        let span = tracing::error_span!(
            "call",
            method,
            request_id = request_id.as_str(),
            trace_id = trace_parent.map(|parent| display(parent.trace_id)),
            parent_span_id = trace_parent.map(|parent| display(parent.span_id)),
            otel.kind = Empty,
            otel.name = Empty,
            principal = Empty,
            scope = Empty
        );
        telemetry::begin_call(&span, method, trace_parent);
        Self { span, uri, metrics, begun: Instant::now(), code: Code::Cancelled }
    }

    /// The call has ended with this code, and what stands beside it in `headers` or trailers.
    fn end(mut self, code: Code, headers: Option<&HeaderMap>) {
        self.code = code;
        if code != Code::Ok
            && let Some(reason) = headers.and_then(reason_in)
        {
            self.metrics.calls().failed(reason.reason());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let (code, took) = (self.code, self.begun.elapsed());
        self.metrics.calls().ended(self.uri.path(), code as usize, took);
        telemetry::end_call(&self.span, code as i32);
        let latency_ms = took.as_micros() as f64 / 1000.0;
        match self.uri.path().starts_with(PLUMBING) {
            true => tracing::debug!(?code, latency_ms, "call ended"),
            false => tracing::info!(?code, latency_ms, "call ended"),
        }
    }
}

fn method(uri: &Uri) -> &str {
    let path = uri.path();
    &path[..path.floor_char_boundary(MAX_METHOD_BYTES)]
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// The reason that the contract has for an error of ours.
fn reason_in(headers: &HeaderMap) -> Option<ErrorReason> {
    let info = Status::from_header_map(headers)?.get_details_error_info()?;
    ErrorReason::of_reason(&info.reason)
}

pin_project! {
    /// The future of [`LogAccess`].
    pub struct Logged<F> {
        #[pin]
        future: F,
        line: Option<Line>,
    }
}

impl<F, B, E> Future for Logged<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LoggedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.line.as_ref().map(|line| line.span.enter());
        let polled = this.future.poll(cx);
        drop(entered);
        let Poll::Ready(result) = polled else { return Poll::Pending };
        Poll::Ready(result.map(|response| logged(response, this.line.take())))
    }
}

/// A reply without messages has its status in the head, and with that the call has ended.
fn logged<B>(response: Response<B>, line: Option<Line>) -> Response<LoggedBody<B>> {
    let line = match (code_in(response.headers()), line) {
        (Some(code), Some(line)) => {
            line.end(code, Some(response.headers()));
            None
        }
        (_, line) => line,
    };
    response.map(|body| LoggedBody { body, line })
}

pin_project! {
    /// A reply's body: polled within the call's span, and watched for the status in its trailers.
    #[derive(Debug)]
    pub struct LoggedBody<B> {
        #[pin]
        body: B,
        line: Option<Line>,
    }
}

impl<B: Body> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let entered = this.line.as_ref().map(|line| line.span.enter());
        let polled = this.body.poll_frame(cx);
        drop(entered);
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        if let Some((code, trailers)) = code_at_end(&frame)
            && let Some(line) = this.line.take()
        {
            line.end(code, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The call's code and its trailers, if `frame` is the last one. A body that ends without a status is a fault, and so is one
/// that fails.
fn code_at_end<D, E>(frame: &Option<Result<Frame<D>, E>>) -> Option<(Code, Option<&HeaderMap>)> {
    match frame {
        Some(Ok(frame)) => {
            frame.trailers_ref().map(|trailers| (code_in(trailers).unwrap_or(Code::Unknown), Some(trailers)))
        }
        Some(Err(_)) | None => Some((Code::Unknown, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_method_is_cut_where_a_character_begins() {
        for (path, expected) in [("/a/b".to_owned(), 4), (format!("/{}", "é".repeat(500)), 127)] {
            assert_eq!(method(&path.parse().unwrap()).len(), expected, "{path}");
        }
    }
}
