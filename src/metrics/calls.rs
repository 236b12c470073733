//! Calls by method and code, how long they took, and those that were refused at the door.

use std::{
    array,
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Label, SECONDS};

/// The codes of gRPC, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: usize = 2;

/// The method of a call that is none of the service's.
const OTHER: &str = "other";

type Labels = [(&'static str, String); 2];
type Calls = Family<Labels, Counter>;
type Durations = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

/// Why a caller could not be told.
#[derive(Clone, Copy, Debug)]
pub enum NotKnown {
    /// There are no credentials.
    Missing,
    /// They were good once.
    Expired,
    /// They cannot be read or verified.
    Invalid,
    /// They came over a connection whose client may not vouch for anybody.
    NotVouched,
}

impl NotKnown {
    const ALL: [Self; 4] = [Self::Missing, Self::Expired, Self::Invalid, Self::NotVouched];

    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::NotVouched => "not_vouched",
        }
    }
}

/// Counts calls.
#[derive(Debug)]
pub struct CallMetrics {
    by_path: HashMap<String, Method>,
    other: Method,
    authentication_failures: Family<Label, Counter>,
    denied: Family<Label, Counter>,
    failed: Family<Label, Counter>,
    ignored_token_items: Counter<u64, AtomicU64>,
    denials_lost: Counter<u64, AtomicU64>,
    log_lines_lost: Counter<u64, AtomicU64>,
}

/// The metrics of one method. A series appears when its code first does: most never do.
#[derive(Debug)]
struct Method {
    name: String,
    family: Calls,
    by_code: [OnceLock<Counter>; CODES.len()],
    duration: Histogram,
}

impl CallMetrics {
    pub(super) fn register(registry: &mut Registry, paths: impl IntoIterator<Item = String>) -> Self {
        let calls = Calls::default();
        let durations = Durations::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register("calls", "Calls that have ended, by method and gRPC code", calls.clone());
        let help = "How long calls took, from the request's head to the end of the reply";
        registry.register_with_unit("call_duration", help, Unit::Seconds, durations.clone());
        let method = |name: &str| Method::new(name.to_owned(), &calls, &durations);
        let named = |path: String| {
            let method = method(path.trim_start_matches('/'));
            (path, method)
        };
        let new = Self {
            by_path: paths.into_iter().map(named).collect(),
            other: method(OTHER),
            authentication_failures: Family::default(),
            denied: Family::default(),
            failed: Family::default(),
            ignored_token_items: Counter::default(),
            denials_lost: Counter::default(),
            log_lines_lost: Counter::default(),
        };
        new.register_failures(registry);
        new.register_losses(registry);
        new
    }

    fn register_failures(&self, registry: &mut Registry) {
        for reason in NotKnown::ALL {
            drop(self.authentication_failures.get_or_create(&[("reason", reason.as_str())]));
        }
        let help = "Calls whose caller could not be told, by what was wrong with the credentials";
        registry.register("authentication_failures", help, self.authentication_failures.clone());
        let help = "Calls of known callers without the right, by the right";
        registry.register("denied_calls", help, self.denied.clone());
        let help = "Calls that ended with an error, by its reason in the contract";
        registry.register("failed_calls", help, self.failed.clone());
    }

    fn register_losses(&self, registry: &mut Registry) {
        let help = "Items of the roles and permissions claims of tokens that were no grants";
        registry.register("ignored_token_items", help, self.ignored_token_items.clone());
        let help = "Denied calls that no event will tell of, because too many different ones came or the service ended";
        registry.register("denials_lost", help, self.denials_lost.clone());
        let help = "Lines of the log that were not written, because nobody took those before them from stderr";
        registry.register("log_lines_lost", help, self.log_lines_lost.clone());
    }

    /// A call of the method at `path` has ended with the gRPC code of that number.
    pub fn ended(&self, path: &str, code: usize, duration: Duration) {
        self.by_path.get(path).unwrap_or(&self.other).ended(code, duration);
    }

    /// There may be errors of that reason.
    pub(super) fn expect_failure(&self, reason: &'static str) {
        drop(self.failed.get_or_create(&[("reason", reason)]));
    }

    /// A call has ended with an error of that reason, which is from a closed set.
    pub fn failed(&self, reason: &'static str) {
        self.failed.get_or_create(&[("reason", reason)]).inc();
    }

    /// A caller could not be told.
    pub fn authentication_failed(&self, reason: NotKnown) {
        self.authentication_failures.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// So many items of tokens were no grants since the start. To be told before each
    /// [`encode`](super::Metrics::encode).
    pub fn ignored_token_items(&self, total: u64) {
        self.ignored_token_items.inner().store(total, Ordering::Relaxed);
    }

    /// So many lines of the log were lost since the start. To be told before each [`encode`](super::Metrics::encode).
    pub fn log_lines_lost(&self, total: u64) {
        self.log_lines_lost.inner().store(total, Ordering::Relaxed);
    }

    /// So many denied calls more will not be in any tenant's log.
    pub fn denials_lost(&self, count: u64) {
        self.denials_lost.inc_by(count);
    }

    /// A known caller lacks `permission`, which is from a closed set.
    pub fn denied(&self, permission: &'static str) {
        self.denied.get_or_create(&[("permission", permission)]).inc();
    }
}

impl Method {
    fn new(name: String, family: &Calls, durations: &Durations) -> Self {
        let duration = durations.get_or_create_owned(&[("method", name.clone())]);
        Self { name, family: family.clone(), by_code: array::from_fn(|_| OnceLock::new()), duration }
    }

    fn ended(&self, code: usize, duration: Duration) {
        let code = if code < CODES.len() { code } else { UNKNOWN };
        self.by_code[code].get_or_init(|| self.counter(CODES[code])).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    fn counter(&self, code: &str) -> Counter {
        self.family.get_or_create_owned(&[("method", self.name.clone()), ("code", code.to_owned())])
    }
}
