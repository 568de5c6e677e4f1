//! Readers of the kinds that routes come from: the only files of compile that know their types.

pub mod deployment;
pub mod deployment_tls;
