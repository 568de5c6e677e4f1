//! The CRDs of group postern.dev: types, schema and CEL rules. No logic.

pub mod condition;
pub mod deployment;
pub mod duration;

pub const GROUP: &str = "postern.dev";
pub const VERSION: &str = "v1alpha1";
