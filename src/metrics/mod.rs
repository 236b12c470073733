//! What is counted, for those who watch the service.
//!
//! One [`Metrics`] belongs to one service, not to the process, so that two services in one test do not see each other's
//! numbers. All label values come from closed sets: nothing that a caller sends becomes one. What a call touches is
//! looked up when the service starts, so that counting takes a lock or two that nobody holds for long.
//!
//! The crate is `prometheus-client`: the Prometheus project's own, kept, without a recorder that is global to the process and
//! without samples that pile up until somebody scrapes.

mod append;
mod calls;
mod reads;

use std::{fmt, sync::Arc};

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

pub use append::AppendMetrics;
pub use calls::{CallMetrics, NotKnown};
pub use reads::{PoolState, ReadMetrics};

/// How [`Metrics::encode`] calls its text to whoever scrapes. OpenMetrics, which Prometheus has read since 2.5.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of one service. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    calls: CallMetrics,
    append: AppendMetrics,
    reads: ReadMetrics,
}

impl Metrics {
    /// All zero. `methods` are the paths of the calls that are told apart, as in `/package.Service/Method`; all others
    /// count as one. `reasons` are those of errors: their series are there from the start, because an alert does not see the first
    /// of a series that begins with it.
    pub fn new(methods: impl IntoIterator<Item = String>, reasons: impl IntoIterator<Item = &'static str>) -> Self {
        let mut registry = Registry::with_prefix("auditlog");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which version runs", version);
        let calls = CallMetrics::register(&mut registry, methods);
        reasons.into_iter().for_each(|reason| calls.expect_failure(reason));
        let append = AppendMetrics::register(&mut registry);
        let reads = ReadMetrics::register(&mut registry);
        Self(Arc::new(Inner { registry, calls, append, reads }))
    }

    /// Calls, and those that were refused at the door.
    pub fn calls(&self) -> &CallMetrics {
        &self.0.calls
    }

    /// The append path.
    pub fn append(&self) -> &AppendMetrics {
        &self.0.append
    }

    /// Reads and exports.
    pub fn reads(&self) -> &ReadMetrics {
        &self.0.reads
    }

    /// The text that is scraped; see [`CONTENT_TYPE`].
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// For whoever counts and is not watched.
impl Default for Metrics {
    fn default() -> Self {
        Self::new([], [])
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// From half a millisecond to a minute: a record on a quiet machine, and more than a call may take by default.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

type Label = [(&'static str, &'static str); 1];
