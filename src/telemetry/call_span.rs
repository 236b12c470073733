//! What a call's span tells a collector beyond what it tells the log.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context,
    trace::{SpanContext, Status, TraceContextExt as _, TraceFlags, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::trace_parent::TraceParent;

/// Whether spans are exported: the subscriber is the process's, and so is this. Where they are not, the functions below
/// cost one load.
pub(super) static EXPORTED: AtomicBool = AtomicBool::new(false);

/// The codes that are the server's fault, by the conventions for gRPC: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const SERVER_ERRORS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// Names the span of a call of `method`, a path, and makes it a child of the caller's. It must not have been entered, and
/// must have the fields `otel.name` and `otel.kind`.
pub fn begin_call(span: &Span, method: &str, parent: Option<TraceParent>) {
    if !EXPORTED.load(Ordering::Relaxed) {
        return;
    }
    span.record("otel.name", method.trim_start_matches('/'));
    span.record("otel.kind", "server");
    span.set_attribute("rpc.system", "grpc");
    if let Some(parent) = parent {
        // Fails only where nothing is exported.
        let _ = span.set_parent(context(parent));
    }
}

/// Tells with which gRPC code the call has ended.
pub fn end_call(span: &Span, code: i32) {
    if !EXPORTED.load(Ordering::Relaxed) {
        return;
    }
    span.set_attribute("rpc.grpc.status_code", i64::from(code));
    if SERVER_ERRORS.contains(&code) {
        span.set_status(Status::error(""));
    }
}

fn context(parent: TraceParent) -> Context {
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (parent.trace_id.to_number().into(), parent.span_id.to_number().into());
    Context::new().with_remote_span_context(SpanContext::new(trace_id, span_id, flags, true, TraceState::default()))
}
