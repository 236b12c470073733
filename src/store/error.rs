//! What can go wrong with a store, sorted by what the caller can do about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::model::ViewError;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is locked, full or broken; nothing was changed. A retry may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It holds a schema that this binary must not use.
    #[error("{0}")]
    Unusable(String),
    /// The commit was sent and its reply was lost: it may or may not have happened.
    #[error("the outcome of the commit is unknown: {0}")]
    OutcomeUnknown(String),
    /// It refused what it was given, and would again.
    #[error("the store refused a row: {0}")]
    Refused(String),
    /// A tenant's log went back behind what was seen of it. Nothing is recorded or signed until an operator acknowledges
    /// that; see [`crate::ingest::acknowledge`].
    #[error("the log of tenants/{tenant} went back: {what}")]
    RolledBack {
        /// Whose log.
        tenant: String,
        /// What it was, and is.
        what: String,
    },
    /// It holds something that this service never wrote.
    #[error("the store holds what cannot be read: {0}")]
    Corrupt(String),
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(kind, _) if is_refusal(kind) => Self::Refused(error.to_string()),
            DieselError::SerializationError(_) => Self::Refused(error.to_string()),
            DieselError::DeserializationError(_) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ViewError> for StoreError {
    fn from(error: ViewError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        ViewError::Json(error).into()
    }
}

impl From<diesel::r2d2::PoolError> for StoreError {
    fn from(error: diesel::r2d2::PoolError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<diesel::ConnectionError> for StoreError {
    fn from(error: diesel::ConnectionError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn is_refusal(kind: &DatabaseErrorKind) -> bool {
    matches!(
        kind,
        DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::NotNullViolation | DatabaseErrorKind::CheckViolation
    )
}
