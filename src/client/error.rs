//! What can go wrong, in a form that a program can read.

use std::{error::Error, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::proto::{ERROR_DOMAIN, auditlog::v1::ErrorReason};

use super::{batch::BatchLimits, credentials::CredentialsInvalid, event::NewEvent};

/// Why something was not recorded, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none, or nobody answers there.
    #[error("cannot connect to {address}: {}", root_cause(.source))]
    Connect {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The address does not begin with `https://`, and [`ClientTls`](super::ClientTls) says how to encrypt. Nobody was called.
    #[error("{address} does not begin with https://, and TLS is asked for")]
    NotEncrypted {
        /// The address.
        address: String,
    },
    /// The credentials cannot be sent.
    #[error(transparent)]
    Credentials(#[from] CredentialsInvalid),
    /// More than one batch may hold; nothing was sent. [`Emitter::record_all`](super::Emitter::record_all) makes batches.
    #[error("{events} events of {bytes} bytes are more than a batch may hold ({} events, {} bytes)", .limits.events, .limits.bytes)]
    BatchTooLarge {
        /// How many events it has.
        events: usize,
        /// How many bytes they may take.
        bytes: usize,
        /// What a batch may hold.
        limits: BatchLimits,
    },
    /// The service, or the way to it, refused the call, at once or as often as it was repeated.
    #[error(transparent)]
    Call(Box<CallFailed>),
    /// The service's reply does not hold what its contract says. The events are very likely recorded; sending them again with their
    /// ids is safe.
    #[error(
        "very likely recorded, and sending it again with the same ids is safe, but the service answered something else than a \
         receipt for each event: {0}"
    )]
    Reply(&'static str),
}

/// How the last attempt at a call failed.
#[derive(Debug)]
pub struct CallFailed {
    status: Status,
    details: ErrorDetails,
    attempts: u32,
    /// Whether this attempt, or one before it, may have done what was asked for.
    may_be_done: bool,
}

/// One field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request, such as `event.resource.type`, or `requests[3].event.actor.id` in a batch.
    pub field: String,
    /// The rule.
    pub description: String,
}

/// One batch that [`Emitter::record_all`](super::Emitter::record_all) could not record, or of which it does not know.
#[derive(Debug, thiserror::Error)]
#[error("a batch of {} events{}: {error}", .events.len(), .error.outcome())]
pub struct NotRecorded {
    /// All events of the batch. They keep their ids: they can safely be sent again.
    pub events: Vec<NewEvent>,
    /// Why.
    #[source]
    pub error: ClientError,
}

impl ClientError {
    /// The call that failed, if there was one.
    pub fn call(&self) -> Option<&CallFailed> {
        match self {
            Self::Call(failed) => Some(failed),
            _ => None,
        }
    }

    /// The service's reason, such as `PERMISSION_MISSING`; the contract's `ErrorReason` lists them. `None` if the error
    /// is not the service's own.
    pub fn reason(&self) -> Option<&str> {
        self.call().and_then(CallFailed::reason)
    }

    /// The fields that the service found wrong; empty unless the reason is `FIELD_INVALID`.
    pub fn violations(&self) -> Vec<Violation> {
        self.call().map(CallFailed::violations).unwrap_or_default()
    }

    /// Whether the event may be recorded all the same: a call got no answer, or one that does not know. To know, send the same
    /// event again, not a new one.
    pub fn may_be_recorded(&self) -> bool {
        matches!(self, Self::Reply(_)) || self.call().is_some_and(|failed| failed.may_be_done)
    }

    /// What became of a batch, where the error does not say so itself.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Reply(_) => "",
            _ if self.may_be_recorded() => " may be recorded",
            _ => " is not recorded",
        }
    }

    /// Whether the same event may be recorded by trying again later. It may also have been recorded already, see
    /// [`Self::may_be_recorded`].
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Connect { .. }) || self.call().is_some_and(CallFailed::is_temporary)
    }
}

impl CallFailed {
    pub(crate) fn new(status: Status, attempts: u32) -> Self {
        let mut failed = Self { details: status.get_error_details(), status, attempts, may_be_done: false };
        failed.may_be_done = !failed.has_done_nothing();
        failed
    }

    /// The same behind an `earlier` attempt of the same call.
    pub(crate) fn behind(self, earlier: Option<&Self>) -> Self {
        Self { may_be_done: self.may_be_done || earlier.is_some_and(|earlier| earlier.may_be_done), ..self }
    }

    /// Whether the service has said of this attempt that nothing came of it. Whatever else stands on the way, and cuts a call
    /// off, cannot know.
    fn has_done_nothing(&self) -> bool {
        use ErrorReason::{DeadlineExceeded, Internal, OutcomeUnknown};
        let leave_open = [OutcomeUnknown, Internal, DeadlineExceeded].map(|reason| reason.reason());
        self.reason().is_some_and(|reason| !leave_open.contains(&reason))
    }

    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// What the service says of it, for people.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// The service's reason, such as `PERMISSION_MISSING`. `None` if the error is not the service's own.
    pub fn reason(&self) -> Option<&str> {
        self.details.error_info().filter(|info| info.domain == ERROR_DOMAIN).map(|info| info.reason.as_str())
    }

    /// What the service tells beside the reason, by key: `scope`, `permission`, `index`, `event_id`.
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.details.error_info()?.metadata.get(key).map(String::as_str)
    }

    /// The fields that break a rule.
    pub fn violations(&self) -> Vec<Violation> {
        let violations = self.details.bad_request().map_or(&[][..], |request| &request.field_violations);
        violations.iter().map(|v| Violation { field: v.field.clone(), description: v.description.clone() }).collect()
    }

    /// How often the call was made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether another attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        match self.code() {
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => true,
            // The service does not send a cause along: a status that has one was made here, from a broken connection.
            Code::Unknown | Code::Internal => self.status.source().is_some(),
            _ => false,
        }
    }

    /// Whether nothing helps before an operator has acted: the log went back.
    pub(crate) fn waits_for_operator(&self) -> bool {
        self.reason() == Some(ErrorReason::LogRolledBack.reason())
    }

    /// How long the service asks to wait.
    pub(crate) fn asked_delay(&self) -> Duration {
        self.details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
    }
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason().map(|reason| format!(", {reason}")).unwrap_or_default();
        write!(f, "{:?}{reason} (attempt {}): ", self.code(), self.attempts)?;
        match self.violations().as_slice() {
            [] => f.write_str(self.message()),
            // The message is but the first of them.
            violations => f.write_str(&violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            // The service counts in this way those that it had no room to name.
            "" => f.write_str(&self.description),
            field => write!(f, "{field} {}", self.description),
        }
    }
}

impl Error for CallFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.status)
    }
}

impl From<CallFailed> for ClientError {
    fn from(failed: CallFailed) -> Self {
        Self::Call(Box::new(failed))
    }
}

/// The transport's own text is only "transport error"; the last error in its chain says which.
fn root_cause(mut error: &dyn Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
