//! Every failure, and which answer it gets: the only place that makes a [`Status`].
//!
//! `error_reason.proto` is the contract; each error carries a `google.rpc.ErrorInfo` with a reason from there.

mod answer;

use std::{any::Any, time::Duration};

use tonic::{
    Code, Status,
    metadata::{AsciiMetadataValue, BinaryMetadataValue},
};

use self::answer::{Answer, QUEUE_DELAY};
use super::{
    decode::{Path, Violations},
    page_token::PageTokenInvalid,
    request_id::RequestId,
    traffic::Patience,
};
use crate::{
    auth::{CredentialsError, Denied},
    export::{ExportError, ExportSummary},
    ingest::IngestError,
    metrics::{CallMetrics, NotKnown},
    proof::{KeyMissing, ProveError},
    proto::auditlog::v1::ErrorReason,
    store::StoreError,
};

pub use crate::proto::export_metadata::{LOG_SIZE, MANIFEST, ROW_COUNT, SHA256};

/// Why a call gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller is not known.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The caller may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A web page that may not call.
    #[error("pages of {0} may not call; the setting cors.allowed_origins names those that may")]
    Origin(String),
    /// The request breaks rules.
    #[error("{0}")]
    Invalid(Violations),
    /// The page token is not of this request.
    #[error(transparent)]
    PageToken(#[from] PageTokenInvalid),
    /// The scope named has no such event.
    #[error("there is no such event within the scope named")]
    EventNotFound,
    /// The event named has no such note.
    #[error("there is no such event within the scope named, or no such note on it")]
    NoteNotFound,
    /// Nothing can be signed.
    #[error(transparent)]
    KeyMissing(#[from] KeyMissing),
    /// The append path did not take it.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much came.
    #[error("{message}")]
    RateLimited {
        /// Of what, in words for the caller.
        message: String,
        /// When there may be room again.
        retry_after: Duration,
    },
    /// It took longer than somebody would wait.
    #[error("no answer in time")]
    TooSlow(Patience),
    /// An export whose reader stands still.
    #[error("the export's reader took nothing for {0:?}")]
    Stalled(Duration),
    /// An export that was not done when the service ended.
    #[error("the service ended before the export did")]
    CutOff,
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl From<Violations> for Failure {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            ExportError::Ingest(error) => Self::of_own_event(error),
            ExportError::Internal(details) => Self::Internal(details),
            ExportError::Prove(error) => Self::from(error),
            ExportError::LogSize { asked, size } => Self::Invalid(Violations::one(
                Path::ROOT.field("log_size"),
                format_args!("must be at most the log's size, which is {size}; it is {asked}"),
            )),
            ExportError::ResumeNotFound => Self::Invalid(Violations::one(
                Path::ROOT.field("after_event_id"),
                "must be the event_id of a row of the export that is resumed; there is no such row",
            )),
        }
    }
}

impl From<ProveError> for Failure {
    fn from(error: ProveError) -> Self {
        let field = match error {
            ProveError::Store(error) => return Self::Store(error),
            ProveError::NoKey(missing) => return Self::KeyMissing(missing),
            ProveError::Contradiction { .. } | ProveError::Sign(_) => return Self::internal(error),
            ProveError::BeyondHead { field, .. } => field,
            ProveError::LeafNotBelow { .. } => "tree_size",
            ProveError::OldAboveNew { .. } => "old_size",
        };
        Self::Invalid(Violations::one(Path::ROOT.field(field), error))
    }
}

impl Failure {
    /// A fault of ours, with what the log shall say of it.
    pub fn internal(details: impl ToString) -> Self {
        Self::Internal(details.to_string())
    }

    /// The event that the service wanted to record of the call was not, or perhaps it was. The caller has no id to ask for it, and
    /// nothing of theirs can be stored twice: they just call again.
    pub fn of_own_event(error: IngestError) -> Self {
        match error {
            IngestError::OutcomeUnknown { .. } => Self::Store(StoreError::Unavailable(error.to_string())),
            _ => Self::Ingest(error),
        }
    }

    /// Too much is under way at the moment.
    pub fn busy(message: &str) -> Self {
        Self::RateLimited { message: message.to_owned(), retry_after: QUEUE_DELAY }
    }

    /// The answer. What the caller must not learn goes to the log instead, once, here.
    pub fn into_status(self, request_id: &RequestId) -> Status {
        self.log(request_id);
        self.answer(request_id).into_status()
    }

    /// Counts a call that was refused at the door.
    pub fn count(&self, metrics: &CallMetrics) {
        match self {
            Self::Credentials(CredentialsError::Missing | CredentialsError::TokenMissing) => {
                metrics.authentication_failed(NotKnown::Missing);
            }
            Self::Credentials(CredentialsError::Expired) => metrics.authentication_failed(NotKnown::Expired),
            Self::Credentials(CredentialsError::NotVouched { .. }) => {
                metrics.authentication_failed(NotKnown::NotVouched)
            }
            Self::Credentials(CredentialsError::Invalid { .. }) => metrics.authentication_failed(NotKnown::Invalid),
            Self::Denied(denied) => metrics.denied(denied.permission),
            _ => (),
        }
    }

    fn log(&self, request_id: &RequestId) {
        let id = request_id.as_str();
        match self {
            Self::Internal(_)
            | Self::Ingest(IngestError::Internal(_))
            | Self::Store(StoreError::Refused(_) | StoreError::Corrupt(_) | StoreError::RolledBack { .. })
            | Self::Ingest(IngestError::RolledBack { .. }) => {
                tracing::error!(request_id = id, error = %self, "the call failed for a reason that does not pass by itself");
            }
            Self::Store(StoreError::Unavailable(_) | StoreError::Unusable(_) | StoreError::OutcomeUnknown(_))
            | Self::Ingest(IngestError::Unavailable(_) | IngestError::OutcomeUnknown { .. }) => {
                tracing::warn!(request_id = id, error = %self, "the store is not available");
            }
            _ => (),
        }
    }

    fn answer(self, request_id: &RequestId) -> Answer {
        use ErrorReason as Reason;
        match self {
            Self::Credentials(error) => Answer::of_credentials(&error),
            Self::Denied(denied) => Answer::of_denied(&denied),
            Self::Origin(_) => Answer::new(Code::PermissionDenied, Reason::PermissionMissing, self),
            Self::Invalid(violations) => Answer::invalid(&violations),
            Self::PageToken(error) => Answer::new(Code::InvalidArgument, Reason::PageTokenInvalid, error),
            Self::EventNotFound | Self::NoteNotFound => Answer::new(Code::NotFound, Reason::EventNotFound, self),
            Self::KeyMissing(_) => Answer::new(Code::FailedPrecondition, Reason::SigningKeyMissing, self),
            Self::Ingest(error) => Answer::of_ingest(error, request_id),
            Self::RateLimited { message, retry_after } => {
                Answer::new(Code::ResourceExhausted, Reason::RateLimited, message).retry_after(retry_after)
            }
            Self::TooSlow(patience) => Answer::too_slow(patience),
            Self::Stalled(time) => Answer::new(
                Code::DeadlineExceeded,
                Reason::DeadlineExceeded,
                format!("nothing was taken for {time:?}, and the export was ended; it can be resumed"),
            ),
            Self::CutOff => Answer::cut_off(),
            Self::Store(StoreError::Unavailable(_) | StoreError::Unusable(_) | StoreError::OutcomeUnknown(_)) => {
                Answer::store_unavailable("retry later")
            }
            Self::Store(StoreError::RolledBack { tenant, .. }) => Answer::rolled_back(&tenant),
            Self::Store(StoreError::Refused(_) | StoreError::Corrupt(_)) | Self::Internal(_) => {
                Answer::internal(request_id)
            }
        }
    }
}

/// The answer to a call that panicked, which is logged here.
pub fn of_panic(panic: &(dyn Any + Send), request_id: &RequestId) -> Status {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::internal(format_args!("panic: {}", text.unwrap_or("(no text)"))).into_status(request_id)
}

/// The answer to bytes that are no message, or too large a one, as `transport` found.
pub fn of_unreadable(transport: &Status, request_id: &RequestId) -> Status {
    let why = match transport.code() {
        Code::OutOfRange => format!("the request is too large: {}", transport.message()),
        _ => format!("the request is not a valid protobuf message: {}", transport.message()),
    };
    Failure::Invalid(Violations::one(Path::ROOT, why)).into_status(request_id)
}

/// The end of an export that is complete, as a status: OK, with what was sent as trailing metadata.
pub fn of_complete_export(summary: &ExportSummary) -> Status {
    let mut status = Status::new(Code::Ok, "");
    status.metadata_mut().insert(ROW_COUNT, AsciiMetadataValue::from(summary.rows));
    let sha256 = AsciiMetadataValue::try_from(hex::encode(summary.sha256)).expect("hex is ASCII");
    status.metadata_mut().insert(SHA256, sha256);
    if let Some(manifest) = &summary.manifest {
        status.metadata_mut().insert_bin(MANIFEST, BinaryMetadataValue::from_bytes(manifest.as_bytes()));
    }
    status
}
