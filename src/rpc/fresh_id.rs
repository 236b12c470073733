//! Ids of the server's own making, for callers who bring none.

use super::status::Failure;
use crate::model::{Clock, TimeId};

/// The random bytes of one id.
const RANDOM_LEN: usize = 10;

/// One id at the present time.
pub fn fresh_id(clock: &dyn Clock) -> Result<TimeId, Failure> {
    TimeId::random(clock.now()).map_err(Failure::internal)
}

/// `count` ids at the present time, out of one read of the operating system's random bytes.
pub fn fresh_ids(clock: &dyn Clock, count: usize) -> Result<Vec<TimeId>, Failure> {
    let mut random = vec![0; count * RANDOM_LEN];
    getrandom::fill(&mut random).map_err(Failure::internal)?;
    let (chunks, _) = random.as_chunks::<RANDOM_LEN>();
    chunks.iter().map(|random| at_present(clock, *random)).collect()
}

fn at_present(clock: &dyn Clock, random: [u8; RANDOM_LEN]) -> Result<TimeId, Failure> {
    TimeId::at(clock.now(), random).ok_or_else(|| Failure::internal("the clock stands before 1970 or after 9999"))
}
