//! What a service tells those who watch it.

use auditlog::config::Config;

use super::TestApp;
use crate::http1;

/// Has a service serve metrics and probes.
pub fn watched(config: &mut Config) {
    config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
}

impl TestApp {
    /// The metrics of a [`watched`] service.
    pub async fn metrics(&self) -> String {
        let (status, text) = http1::get(self.admin.unwrap(), "/metrics").await;
        assert_eq!(status, 200, "{text}");
        text
    }

    /// One of them, as it is written; 0 where it has not appeared.
    pub async fn metric(&self, series: &str) -> f64 {
        value(&self.metrics().await, series)
    }
}

/// The value of a series, given as it is written; 0 where it has not appeared.
pub fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}
