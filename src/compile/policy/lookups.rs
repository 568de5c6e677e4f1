//! Which objects the policies refer to.

use super::keys::Keys;
use super::references::Sources;
use crate::compile::backend::Services;
use crate::config::Routing;
use crate::object::ObjectKey;
use crate::store::Store;

/// Where what a policy's rules refer to is found.
pub struct Lookups<'a> {
    pub(super) policy: &'a ObjectKey,
    pub(super) keys: &'a Keys,
    pub(super) sources: &'a Sources,
    pub(super) services: &'a Services,
    pub(super) store: &'a Store,
    pub(super) routing: &'a Routing,
}
