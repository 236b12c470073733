//! File descriptors: as many as the settings may take. Each connection is one, and without any left nobody is answered, not even
//! who asks for the service's health.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;

/// What is open besides connections of callers and of the database: files, sockets of probes and of exporters.
const OTHERS: u64 = 256;

/// Raises the soft limit of this process to what `config` may take, as far as the hard one lets it, and warns if that is less.
pub(super) fn raise(config: &Config) {
    let (wanted, limit) = (wanted(config), getrlimit(Resource::Nofile));
    let Some(raised) = raised(limit.current, limit.maximum, wanted) else { return };
    // What is refused shows in the next line.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit });
    let limit = getrlimit(Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < wanted) {
        warn!(
            limit,
            wanted,
            "fewer file descriptors than limits.connections may take: raise the hard limit of the process (LimitNOFILE, ulimit -Hn), \
             or lower limits.connections"
        );
    }
}

fn wanted(config: &Config) -> u64 {
    let connections = u64::try_from(config.traffic.connections).unwrap_or(u64::MAX);
    let database = u64::from(config.database.pool_size).saturating_mul(4);
    connections.saturating_add(database).saturating_add(OTHERS)
}

/// The soft limit to set; `None` where it is enough. `None` for a limit is none at all.
fn raised(soft: Option<u64>, hard: Option<u64>, wanted: u64) -> Option<u64> {
    let soft = soft?;
    (soft < wanted).then(|| hard.map_or(wanted, |hard| wanted.min(hard)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some(1024), Some(65_536), Some(5000))]
    #[case(Some(1024), None, Some(5000))]
    #[case(Some(1024), Some(4096), Some(4096))]
    #[case(Some(5000), Some(65_536), None)]
    #[case(None, None, None)]
    fn the_soft_limit_is_raised_as_far_as_needed_and_allowed(
        #[case] soft: Option<u64>,
        #[case] hard: Option<u64>,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(raised(soft, hard, 5000), expected);
    }
}
