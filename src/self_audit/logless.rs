//! Tenants that had no log a moment ago, so that made-up names do not bring a question to the store with each denial.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

/// The most tenants that are remembered. Beyond it the one that came first is forgotten, and costs a question again.
const MAX_TENANTS: usize = 1024;

/// Remembers them, each until some time.
#[derive(Default)]
pub(super) struct Logless {
    until: HashMap<String, Instant>,
    in_order: VecDeque<String>,
}

impl Logless {
    /// `tenant` had no log, which will do as an answer before `until`.
    pub(super) fn remember(&mut self, tenant: &str, until: Instant) {
        if self.until.insert(tenant.to_owned(), until).is_some() {
            return;
        }
        self.in_order.push_back(tenant.to_owned());
        if self.in_order.len() > MAX_TENANTS {
            let first = self.in_order.pop_front();
            first.and_then(|first| self.until.remove(&first));
        }
    }

    /// Whether the answer is known to be no.
    pub(super) fn knows(&self, tenant: &str, now: Instant) -> bool {
        self.until.get(tenant).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn remembers_for_a_time_and_no_more_than_so_many() {
        let (mut logless, now) = (Logless::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        for n in 0..3 * MAX_TENANTS {
            logless.remember(&format!("t{n}"), later);
            logless.remember("t0", later);
        }
        assert!(logless.until.len() <= MAX_TENANTS && logless.in_order.len() == logless.until.len());
        let last = format!("t{}", 3 * MAX_TENANTS - 1);
        assert!(logless.knows(&last, now) && !logless.knows(&last, later) && !logless.knows("t1", now));
    }
}
