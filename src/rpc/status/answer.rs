//! What callers are told: code, reason, words, and the details that `error_reason.proto` promises.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    auth::{CredentialsError, Denied},
    ingest::IngestError,
    model::{NoteRefusal, Rejection},
    proto::{ERROR_DOMAIN, auditlog::v1::ErrorReason},
    rpc::{decode::Violations, request_id::RequestId, traffic::Patience},
};

/// The most bytes of a message for people. It is sent twice, percent-encoded and within the details, and all trailers
/// together must stay below the 8 KiB that peers take by default.
const MAX_MESSAGE_BYTES: usize = 1024;
/// The same where up to 4 KiB of violations come along.
const MAX_SUMMARY_BYTES: usize = 256;
/// A full queue drains in a few commits.
pub(super) const QUEUE_DELAY: Duration = Duration::from_millis(500);
/// A restart or a failover takes longer.
const OUTAGE_DELAY: Duration = Duration::from_secs(2);

/// All that a [`Status`] of ours is made of.
pub(super) struct Answer {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    violations: Vec<FieldViolation>,
}

impl Answer {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl ToString) -> Self {
        let message = shortened(message.to_string(), MAX_MESSAGE_BYTES);
        Self { code, reason, message, metadata: HashMap::new(), retry_after: None, violations: Vec::new() }
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    pub(super) fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// The message stays whole: the claim to send stands at its end. It is plain ASCII, and not above 2 KiB.
    pub(super) fn of_denied(denied: &Denied) -> Self {
        let answer = Self::new(Code::PermissionDenied, ErrorReason::PermissionMissing, "")
            .with("scope", &denied.scope)
            .with("permission", denied.permission);
        Self { message: denied.to_string(), ..answer }
    }

    pub(super) fn of_credentials(error: &CredentialsError) -> Self {
        let reason = match error {
            CredentialsError::Missing | CredentialsError::TokenMissing => ErrorReason::CredentialsMissing,
            CredentialsError::Expired => ErrorReason::CredentialsExpired,
            CredentialsError::Invalid { .. } | CredentialsError::NotVouched { .. } => ErrorReason::CredentialsInvalid,
        };
        Self::new(Code::Unauthenticated, reason, error)
    }

    pub(super) fn too_slow(patience: Patience) -> Self {
        let whose = if patience.is_callers { "the time in grpc-timeout" } else { "the time that a call may take" };
        let message = format!("no answer within {whose}; a write may have happened: retry it with the same id");
        Self::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message)
    }

    pub(super) fn of_ingest(error: IngestError, request_id: &RequestId) -> Self {
        match error {
            IngestError::QueueFull => {
                let message = "too many writes wait for the store; nothing was stored, retry later";
                Self::new(Code::ResourceExhausted, ErrorReason::QueueFull, message).retry_after(QUEUE_DELAY)
            }
            IngestError::ShuttingDown => {
                let message = "the server is shutting down; nothing was stored, retry on another connection";
                Self::new(Code::Unavailable, ErrorReason::ShuttingDown, message).retry_after(OUTAGE_DELAY)
            }
            IngestError::Rejected(rejection) => Self::of_rejection(rejection),
            IngestError::Unavailable(_) => Self::store_unavailable("nothing was stored, retry later"),
            IngestError::RolledBack { tenant } => Self::rolled_back(&tenant),
            IngestError::OutcomeUnknown { retry_safe: true } => {
                let message = "whether it was stored could not be found out; retry with the same id";
                Self::new(Code::Unavailable, ErrorReason::OutcomeUnknown, message).retry_after(OUTAGE_DELAY)
            }
            IngestError::OutcomeUnknown { retry_safe: false } => {
                let message = "whether it was stored could not be found out; look before you retry, because the \
                               server made an id and a retry may record twice";
                Self::new(Code::Unavailable, ErrorReason::OutcomeUnknown, message)
            }
            IngestError::Internal(_) => Self::internal(request_id),
        }
    }

    fn of_rejection(rejection: Rejection) -> Self {
        match &rejection {
            Rejection::EventDiffers { index, id } => {
                Self::new(Code::AlreadyExists, ErrorReason::EventDiffers, &rejection)
                    .with("index", index)
                    .with("event_id", id)
            }
            Rejection::NoteDiffers { id } => {
                Self::new(Code::AlreadyExists, ErrorReason::NoteDiffers, &rejection).with("note_id", id)
            }
            Rejection::EventNotFound => Self::new(Code::NotFound, ErrorReason::EventNotFound, &rejection),
            Rejection::NotesNotAccepted(NoteRefusal::Type(_) | NoteRefusal::Erased | NoteRefusal::Full(_)) => {
                Self::new(Code::FailedPrecondition, ErrorReason::NotesNotAccepted, &rejection)
            }
        }
    }

    pub(super) fn store_unavailable(advice: &str) -> Self {
        let message = format!("the database does not answer, or takes nothing; {advice}");
        Self::new(Code::Unavailable, ErrorReason::StoreUnavailable, message).retry_after(OUTAGE_DELAY)
    }

    pub(super) fn cut_off() -> Self {
        let message = "the server is shutting down, and the export was ended; it can be resumed on another connection";
        Self::new(Code::Unavailable, ErrorReason::ShuttingDown, message).retry_after(OUTAGE_DELAY)
    }

    /// No retry helps before an operator has acted.
    pub(super) fn rolled_back(tenant: &str) -> Self {
        let message = format!(
            "the log of tenants/{tenant} went back behind what was acknowledged: nothing is recorded or signed until an \
             operator has looked into it and acknowledged it with auditlog acknowledge-rollback"
        );
        Self::new(Code::Unavailable, ErrorReason::LogRolledBack, message)
    }

    pub(super) fn internal(request_id: &RequestId) -> Self {
        let message = format!("internal error; request id {}", request_id.as_str());
        Self::new(Code::Internal, ErrorReason::Internal, message)
    }

    pub(super) fn invalid(violations: &Violations) -> Self {
        let message = shortened(violations.to_string(), MAX_SUMMARY_BYTES);
        let kept = violations.kept().iter().map(|v| FieldViolation::new(&v.field, &v.description));
        let count = (violations.more() > 0).then(|| FieldViolation::new("", format!("and {} more", violations.more())));
        let violations = kept.chain(count).collect();
        Self { violations, ..Self::new(Code::InvalidArgument, ErrorReason::FieldInvalid, message) }
    }

    pub(super) fn into_status(self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason.reason(), ERROR_DOMAIN, self.metadata);
        if !self.violations.is_empty() {
            details.set_bad_request(self.violations);
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

/// `text`, cut at a character where it is too long.
fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes - 3));
        text.push_str("...");
    }
    text
}
