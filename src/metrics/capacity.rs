//! How far the process is from the walls of its machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::family::{self, Family};
use crate::live::state::State;
use crate::runtime::{descriptors, memory};

#[derive(Debug)]
pub struct Capacity {
    pub state: Arc<State>,
    /// In bytes.
    pub max_memory: u64,
}

impl Collector for Capacity {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let clients = &self.state.client_connections;
        let open = clients.capacity() - clients.free();
        ConstGauge::new(open as i64).encode(family::CLIENT_CONNECTIONS.begin(encoder)?)?;
        for (family, count) in [
            (&family::CLIENT_CONNECTIONS_DISPLACED, &self.state.displaced),
            (&family::CLIENT_CONNECTIONS_REFUSED, &self.state.refused),
        ] {
            ConstCounter::new(count.load(Relaxed)).encode(family.begin(encoder)?)?;
        }
        ratio(encoder, &family::DESCRIPTORS_FREE, descriptors::free())?;
        ratio(encoder, &family::PORTS_FREE, self.state.free_ports())?;
        let used = memory::used() as f64 / self.max_memory as f64;
        ratio(encoder, &family::MEMORY_FREE, 1.0 - used.min(1.0))
    }
}

fn ratio(encoder: &mut DescriptorEncoder<'_>, family: &Family, ratio: f64) -> fmt::Result {
    ConstGauge::new(ratio).encode(family.begin(encoder)?)
}
