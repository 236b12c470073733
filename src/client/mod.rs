//! The emitter for other Rust services: build an event, record it, and be sure that it is stored exactly once.
//!
//! A [`NewEvent`] gets its id when it is built, so however often the emitter has to send it, the service keeps one. The
//! emitter therefore repeats what failed for a passing reason ([`RetryPolicy`] says how often and for how long) and
//! gives every other failure back as a [`ClientError`].
//!
//! ```no_run
//! use auditlog::client::{Credentials, Emitter, NewEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials::service("cluster-service").role("event_recorder", "tenants/acme");
//! let emitter = Emitter::connect("http://127.0.0.1:50051", credentials).await?;
//!
//! let event = NewEvent::update("cluster", "c-1")
//!     .actor_user("ann@example.com")
//!     .resource_name("Production")
//!     .message("Ann scaled the cluster Production")
//!     .change("spec.nodes", "3", "5");
//! let receipt = emitter.record("tenants/acme/projects/web", &event).await?;
//! println!("{} has place {} in the log", receipt.name, receipt.leaf_index);
//! # Ok(())
//! # }
//! ```
//!
//! If the process may die before the reply comes, keep the event's id with the change that it tells of (in the same
//! database transaction, say), and send the event again with that id: [`NewEvent::with_id`].

mod batch;
mod credentials;
mod emitter;
mod error;
mod event;
mod receipt;
mod record_all;
mod retry;
mod tls;

pub use crate::model::{ActionType, ActorType, Timestamp};
pub use batch::{BatchLimits, MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
pub use credentials::{Credentials, CredentialsInvalid};
pub use emitter::Emitter;
pub(crate) use emitter::endpoint;
pub use error::{CallFailed, ClientError, NotRecorded, Violation};
pub use event::{InvalidEventId, NewEvent, TimeOutOfRange};
pub use receipt::Receipt;
pub use record_all::RecordAll;
pub use retry::RetryPolicy;
pub(crate) use retry::jittered;
pub use tls::ClientTls;

/// The examples of the documentation compile: they are tests of this one.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/outbox.md")]
    mod outbox {}
}

#[cfg(test)]
mod tests;
