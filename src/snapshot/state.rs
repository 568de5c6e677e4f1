//! What belongs to one Deployment object while it is configured or has requests or sockets.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::runtime::Traffic;
use crate::websocket::registry::Registry;

/// Handshakes with the app that one Deployment may have under way. A handshake costs ten times the memory of the socket that
/// it becomes, and the allocator does not give it back: unbounded, a reconnect storm would leave its memory behind.
/// The bound is the Deployment's own, so that an app that does not answer delays nobody else's sockets.
const UPGRADES_IN_FLIGHT: usize = 64;

#[derive(Debug)]
pub struct DeploymentState {
    pub traffic: Arc<Traffic>,
    pub upgrades: Arc<Semaphore>,
    pub sockets: Arc<Registry>,
}

impl Default for DeploymentState {
    fn default() -> Self {
        let traffic = Arc::new(Traffic::default());
        Self {
            sockets: Arc::new(Registry::new(traffic.clone())),
            traffic,
            upgrades: Arc::new(Semaphore::new(UPGRADES_IN_FLIGHT)),
        }
    }
}
