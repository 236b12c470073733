//! The reading side: connections, and rows that left as CSV.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Label;

/// The read pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that somebody reads on.
    pub in_use: u32,
    /// Connections that are open and wait.
    pub idle: u32,
    /// The most that may be open.
    pub size: u32,
}

/// Counts what is read.
#[derive(Debug)]
pub struct ReadMetrics {
    connections: Family<Label, Gauge>,
    max_connections: Gauge,
    export_rows: Counter<u64, AtomicU64>,
    signing: Gauge,
}

impl ReadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (connections, max_connections, export_rows, signing) = Default::default();
        let new = Self { connections, max_connections, export_rows, signing };
        let help = "Open connections of the read pool, by whether somebody reads on them";
        registry.register("read_pool_connections", help, new.connections.clone());
        let help = "The most connections that the read pool may open";
        registry.register("read_pool_max_connections", help, new.max_connections.clone());
        registry.register("export_rows", "Rows sent by exports, header rows not counted", new.export_rows.clone());
        let help = "1 where checkpoints and exports are signed, 0 where there is no key to sign them with";
        registry.register("signing", help, new.signing.clone());
        new
    }

    /// Whether checkpoints and exports are signed.
    pub fn signs(&self, signs: bool) {
        self.signing.set(signs.into());
    }

    /// The pool as it is now. To be told before each [`encode`](super::Metrics::encode).
    pub fn pool(&self, state: PoolState) {
        let set = |name, count: u32| {
            self.connections.get_or_create(&[("state", name)]).set(count.into());
        };
        set("in_use", state.in_use);
        set("idle", state.idle);
        self.max_connections.set(state.size.into());
    }

    /// An export has sent `rows` more rows.
    pub fn exported(&self, rows: u64) {
        self.export_rows.inc_by(rows);
    }
}
