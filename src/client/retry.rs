//! When to try again, and when to stop.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::error::CallFailed;

/// The longest time that one attempt may be given: gRPC has only eight digits for it.
const MAX_CALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the emitter tries.
///
/// It repeats a call that failed with `UNAVAILABLE`, `RESOURCE_EXHAUSTED`, `DEADLINE_EXCEEDED` or `CANCELLED`, or because
/// the connection broke, and no other; nor with `LOG_ROLLED_BACK`, which lasts until an operator has acted. That is safe, because the events have their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long all attempts and the waits between them may take together. Default: 30 s.
    pub deadline: Duration,
    /// How long one attempt may take. Default: 10 s; at most a day.
    pub call_timeout: Duration,
    /// The first wait. Each further one is twice as long; of each, a random part of up to one half is left out, so that
    /// callers that failed together do not come back together. Default: 50 ms.
    pub first_wait: Duration,
    /// No wait is longer, but for one that the service asks for, which is added. Default: 5 s.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            call_timeout: Duration::from_secs(10),
            first_wait: Duration::from_millis(50),
            max_wait: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Makes `call`, which is told how long it may take, until it succeeds, fails for good, or the time is up.
    pub(crate) async fn run<T, F>(&self, call: impl Fn(Duration) -> F) -> Result<T, CallFailed>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let start = Instant::now();
        let left = || self.deadline.saturating_sub(start.elapsed());
        let (mut attempts, mut earlier) = (0, None);
        loop {
            let failed = match self.attempt(left(), &call).await {
                Ok(reply) => return Ok(reply),
                Err(status) => CallFailed::new(status, attempts + 1).behind(earlier.as_ref()),
            };
            let wait = failed.asked_delay().saturating_add(jittered(self.wait_after(attempts)));
            if !failed.is_temporary() || failed.waits_for_operator() || wait >= left() {
                return Err(failed);
            }
            sleep(wait).await;
            (attempts, earlier) = (attempts + 1, Some(failed));
        }
    }

    /// The service is told the limit, too, but a peer that hangs does not keep to it.
    async fn attempt<T, F>(&self, left: Duration, call: impl Fn(Duration) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let limit = self.call_timeout.min(left).min(MAX_CALL_TIMEOUT);
        let late = |_| Err(Status::deadline_exceeded(format!("no reply within {limit:?}")));
        timeout(limit, call(limit)).await.unwrap_or_else(late)
    }

    /// How long to wait after a failure that came behind `earlier` ones in a row: the first wait, if it is the first.
    pub(crate) fn wait_after(&self, earlier: u32) -> Duration {
        self.first_wait.saturating_mul(2_u32.saturating_pow(earlier)).min(self.max_wait)
    }
}

/// Between one half and all of `wait`. Without randomness it is one half, and still a wait.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    let _ = getrandom::fill(&mut random);
    let half = wait / 2;
    half + half / 256 * u32::from(random[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_overflow() {
        let policy = RetryPolicy::default();
        let waits: Vec<u128> = (0..9).map(|earlier| policy.wait_after(earlier).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let endless = RetryPolicy { max_wait: Duration::MAX, ..policy };
        assert!(endless.wait_after(u32::MAX) > Duration::from_secs(1000));
        assert!(jittered(Duration::MAX) <= Duration::MAX);
    }

    #[test]
    fn jitter_leaves_out_at_most_half() {
        let wait = Duration::from_secs(1);
        let waits: Vec<Duration> = (0..100).map(|_| jittered(wait)).collect();
        assert!(waits.iter().all(|w| (wait / 2..=wait).contains(w)));
        assert!(waits.iter().any(|w| *w != waits[0]));
    }
}
