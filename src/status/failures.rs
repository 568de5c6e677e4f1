//! What ACME could not do, by object and hostname. Whoever orders certificates writes here; the status writer reads
//! it and tells the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::object::ObjectId;

#[derive(Debug, Default)]
pub struct Failures {
    board: Mutex<Board>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Board {
    /// Why, by hostname.
    texts: BTreeMap<ObjectId, BTreeMap<Arc<str>, String>>,
    /// Objects whose entries changed since the last `changed`.
    touched: BTreeSet<ObjectId>,
}

impl Failures {
    /// Why the certificate for this hostname was not ordered.
    pub fn set(&self, object: &ObjectId, hostname: &str, why: &str) {
        let mut board = self.board();
        let texts = board.texts.entry(object.clone()).or_default();
        if texts.get(hostname).is_none_or(|known| known != why) {
            texts.insert(hostname.into(), why.to_owned());
            board.touched.insert(object.clone());
            self.arrived.notify_one();
        }
    }

    /// The order has succeeded, or nobody wants it any more.
    pub fn clear(&self, object: &ObjectId, hostname: &str) {
        let mut board = self.board();
        let Some(texts) = board.texts.get_mut(object) else {
            return;
        };
        let known = texts.remove(hostname).is_some();
        if texts.is_empty() {
            board.texts.remove(object);
        }
        if known {
            board.touched.insert(object.clone());
            self.arrived.notify_one();
        }
    }

    /// By hostname.
    pub fn of(&self, object: &ObjectId) -> BTreeMap<Arc<str>, String> {
        self.board().texts.get(object).cloned().unwrap_or_default()
    }

    /// The objects whose entries changed since the last call; waits for one.
    pub async fn changed(&self) -> BTreeSet<ObjectId> {
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
