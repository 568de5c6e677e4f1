//! Where objects come from: an apiserver or a folder of manifests. Both decode, trim and send the same batches; who
//! receives them cannot tell which it was.

pub mod cluster;
mod deployment;
pub mod files;
pub mod folder;
mod manifests;
pub mod trim;
