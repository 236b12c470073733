//! Ids of the server's own making, for callers who bring none.

use super::status::Failure;
use crate::model::{Clock, TimeId};

/// One id at the present time.
pub fn fresh_id(clock: &dyn Clock) -> Result<TimeId, Failure> {
    TimeId::random(clock.now()).map_err(Failure::internal)
}

/// `count` ids at the present time.
pub fn fresh_ids(clock: &dyn Clock, count: usize) -> Result<Vec<TimeId>, Failure> {
    (0..count).map(|_| fresh_id(clock)).collect()
}
