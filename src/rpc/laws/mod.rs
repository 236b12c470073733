//! What holds of calls, whatever comes in.

mod reads;
mod writes;

use std::time::Duration;

use http::Extensions;
use tonic::{Code, body::Body};

use super::{decode::Violations, request_id::RequestId, status::Failure, traffic::Patience};
use crate::{
    auth::laws::headers,
    model::{Scope, TimeId, Timestamp},
    telemetry::trace_parent::TraceParent,
};

pub use reads::{export, list};
pub use writes::{batch, note, record};

/// What peers take of headers by default, counted as HTTP/2 counts them.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Metadata that is for the service itself, and not about the caller.
pub fn metadata(bytes: &[u8]) {
    let headers = headers(bytes);
    let most = Duration::from_secs(30);
    let patience = Patience::of(&headers, most);
    assert!(patience.time <= most && (patience.time < most || !patience.is_callers), "{patience:?}");
    assert!(!patience.is_callers || headers.contains_key("grpc-timeout"));
    if let Some(parent) = TraceParent::of(&headers) {
        let text = headers["traceparent"].to_str().expect("it was read");
        assert_eq!(text[3..52], format!("{}-{}", parent.trace_id, parent.span_id));
    }
    let id = RequestId::of_headers(&headers);
    assert!(id.as_str().bytes().all(|byte| byte.is_ascii_graphic()) && (1..=128).contains(&id.as_str().len()));
}

/// A scope that was read is shown as it came.
fn parent(text: &str) -> Option<Scope> {
    match super::decode::parent(text) {
        Ok(scope) => {
            assert_eq!(scope.to_string(), text);
            Some(scope)
        }
        Err(violations) => {
            refusal(violations);
            None
        }
    }
}

/// A refusal tells at least one thing, and fits into what any peer takes.
fn refusal(violations: Violations) {
    assert!(!violations.is_empty());
    assert!(violations.kept().len() <= 50);
    let status = Failure::from(violations).into_status(&RequestId::of(&Extensions::new()));
    assert_eq!(status.code(), Code::InvalidArgument);
    let reply = status.into_http::<Body>();
    let bytes: usize = reply.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(bytes <= MAX_HEADER_BYTES, "a refusal of {bytes} bytes");
}

/// An id of the server's at 2027-01-15T08:00:00Z, the present of the laws.
fn fresh() -> TimeId {
    let now = Timestamp::from_timestamp(1_800_000_000, 0).expect("a time that can be shown");
    TimeId::at(now, [0xa5; 10]).expect("a time that an id can carry")
}
