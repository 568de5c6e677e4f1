//! The gauges of a Deployment's connections to its apps.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use crate::runtime::Traffic;

/// Counts one connection in a Deployment's gauge of active or of idle connections until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard {
    traffic: Arc<Traffic>,
    idle: bool,
}

impl GaugeGuard {
    /// Counts an active connection.
    pub fn active(traffic: &Arc<Traffic>) -> Self {
        traffic.connections_active.fetch_add(1, Relaxed);
        Self {
            traffic: traffic.clone(),
            idle: false,
        }
    }

    /// Counts the connection as active again, now for the Deployment that uses it.
    pub fn activate(&mut self, traffic: &Arc<Traffic>) {
        *self = Self::active(traffic);
    }

    /// The connection waits for its next request: it counts as idle.
    pub fn rest(&mut self) {
        self.gauge().fetch_sub(1, Relaxed);
        self.idle = true;
        self.gauge().fetch_add(1, Relaxed);
    }

    fn gauge(&self) -> &AtomicI64 {
        if self.idle {
            &self.traffic.connections_idle
        } else {
            &self.traffic.connections_active
        }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge().fetch_sub(1, Relaxed);
    }
}
