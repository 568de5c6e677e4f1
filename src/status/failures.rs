//! Why certificates could not be obtained, for the conditions: what only the leader's ACME client knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::store::ObjectKey;

/// By Deployment and hostname.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<BTreeMap<(ObjectKey, Arc<str>), String>>>);

impl Failures {
    pub fn set(&self, deployment: &ObjectKey, hostname: &Arc<str>, text: String) {
        let mut texts = self.0.lock().unwrap_or_else(|e| e.into_inner());
        texts.insert((deployment.clone(), hostname.clone()), text);
    }

    pub fn clear(&self, deployment: &ObjectKey, hostname: &Arc<str>) {
        let mut texts = self.0.lock().unwrap_or_else(|e| e.into_inner());
        texts.remove(&(deployment.clone(), hostname.clone()));
    }

    pub fn get(&self, deployment: &ObjectKey, hostname: &Arc<str>) -> Option<String> {
        let texts = self.0.lock().unwrap_or_else(|e| e.into_inner());
        texts.get(&(deployment.clone(), hostname.clone())).cloned()
    }
}
