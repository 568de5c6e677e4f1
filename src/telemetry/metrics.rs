//! Every metric family, in one place. Labels are bounded: never a host, a path or a client.

use prometheus_client::registry::Registry;

/// All families of the process. The data plane holds resolved handles (see `state`), not this.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            registry: Registry::with_prefix("postern"),
        }
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
