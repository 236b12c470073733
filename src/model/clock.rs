//! The one place where the time of day is read.

use chrono::{DateTime, SubsecRound as _, Utc};

/// A moment in UTC. Stored times carry microseconds, event times milliseconds.
pub type Timestamp = DateTime<Utc>;

/// Tells the time. A test clock stands in where a test has to choose it.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, truncated to the microsecond, which is what both stores and the leaf format keep.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else must ask")]
    fn now(&self) -> Timestamp {
        Utc::now().trunc_subsecs(6)
    }
}
