//! What ACME could not do, by Deployment and hostname. Whoever orders certificates writes here; the status writer reads
//! it and tells the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::object::ObjectKey;

#[derive(Debug, Default)]
pub struct Failures {
    board: Mutex<Board>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Board {
    /// Why, by hostname.
    texts: BTreeMap<ObjectKey, BTreeMap<Arc<str>, String>>,
    /// Deployments whose entries changed since the last `changed`.
    touched: BTreeSet<ObjectKey>,
}

impl Failures {
    pub fn set(&self, deployment: &ObjectKey, hostname: &str, why: &str) {
        let mut board = self.board();
        let texts = board.texts.entry(deployment.clone()).or_default();
        if texts.get(hostname).is_none_or(|known| known != why) {
            texts.insert(hostname.into(), why.to_owned());
            board.touched.insert(deployment.clone());
            self.arrived.notify_one();
        }
    }

    pub fn clear(&self, deployment: &ObjectKey, hostname: &str) {
        let mut board = self.board();
        let Some(texts) = board.texts.get_mut(deployment) else {
            return;
        };
        let known = texts.remove(hostname).is_some();
        if texts.is_empty() {
            board.texts.remove(deployment);
        }
        if known {
            board.touched.insert(deployment.clone());
            self.arrived.notify_one();
        }
    }

    /// By hostname.
    pub fn of(&self, deployment: &ObjectKey) -> BTreeMap<Arc<str>, String> {
        self.board().texts.get(deployment).cloned().unwrap_or_default()
    }

    /// The Deployments whose entries changed since the last call; waits for one.
    pub async fn changed(&self) -> BTreeSet<ObjectKey> {
        loop {
            let touched = std::mem::take(&mut self.board().touched);
            if !touched.is_empty() {
                return touched;
            }
            self.arrived.notified().await;
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}
