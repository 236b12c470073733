//! The append path: a bounded queue, and worker threads that commit whatever has gathered while the last batch was being
//! committed.
//!
//! [`handle`] is what the services call; [`room`] says for how much there is room; [`batch`] takes from the queue, from the
//! [`lines`] of each caller in turn; [`commit`] appends a batch and answers each caller truly, whatever the store does;
//! [`held`] keeps a log that somebody else holds from holding up the others; [`pulse`] tells whether a worker gets on, and
//! [`acceptance`] whether the store takes anything.

mod acceptance;
mod batch;
mod commit;
mod handle;
mod held;
mod lines;
mod measured;
mod pulse;
mod rollback;
mod room;
#[cfg(test)]
mod tests;

pub use handle::{Hung, Ingest, IngestError, IngestSettings, Workers};
pub use measured::Measured;
pub use rollback::{AcknowledgeError, Acknowledged, Acknowledgement, acknowledge};
