//! What is saved.

use serde::{Deserialize, Serialize};

/// The whole input of a compile: what it needs of the store, and what no object tells any more. It contains private keys,
/// passwords and API keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedState<Object> {
    /// When the apiserver was last known to say this, in Unix seconds.
    pub saved_at: i64,
    pub objects: Vec<Object>,
    /// Last good versions that stood in for what was broken.
    pub stand_ins: Vec<Object>,
}
