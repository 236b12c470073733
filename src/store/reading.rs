//! Getting a connection to read on, and reading once more where it turns out to be broken.

use std::time::{Duration, Instant};

use diesel::r2d2::{ManageConnection as _, Pool, PooledConnection};

use super::{
    conn::{AnyConnection, Reader, Readers, Target},
    error::StoreError,
};

/// How long a read waits for the pool to connect, before it finds out for itself whether that can be done.
const POOL_PATIENCE: Duration = Duration::from_secs(1);

/// Reads, and where the connection turns out to be broken, as all idle ones are after a restart of the server, reads once
/// more on a new one.
pub(super) fn read_once_more<T>(
    pool: &Pool<Readers>,
    target: &Target,
    read: impl Fn(&mut AnyConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Nobody puts a file back while a read waits.
    target.require_in_place()?;
    match reader(pool, target)? {
        Connected::Own(mut own) => read(&mut own),
        Connected::Pooled(mut pooled) => match read(&mut pooled) {
            Err(StoreError::Unavailable(_)) if !pooled.answers() => {
                drop(pooled);
                read(&mut *Readers(target.clone()).connect()?)
            }
            result => result,
        },
    }
}

/// A connection to read on.
enum Connected {
    Pooled(PooledConnection<Readers>),
    /// Beside the pool.
    Own(Reader),
}

/// Whoever asks has their turn, so the pool has a connection for them, unless it cannot make any more. It would try for as long as a
/// read may wait, where one's own attempt tells at once that the server is away. One that takes no more connections leaves
/// those that are there, and one of them comes back.
fn reader(pool: &Pool<Readers>, target: &Target) -> Result<Connected, StoreError> {
    let begun = Instant::now();
    loop {
        let has_any = pool.state().connections > 0;
        // Has the pool begin an attempt in any case.
        let patience = if has_any { POOL_PATIENCE.min(target.timeout()) } else { Duration::ZERO };
        if let Ok(pooled) = pool.get_timeout(patience) {
            return Ok(Connected::Pooled(pooled));
        }
        match Readers(target.clone()).connect() {
            Ok(own) => return Ok(Connected::Own(own)),
            Err(_) if pool.state().connections > 0 && begun.elapsed() < target.timeout() => (),
            Err(error) => return Err(error),
        }
    }
}
