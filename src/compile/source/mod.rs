//! Where routes come from: a reader for each kind of object that asks for them. These are the only files of compile that know
//! the types of those kinds. A new kind is a file here and a row in `SOURCES`.

pub mod deployment;
pub mod deployment_tls;
mod reading;

pub use reading::{Asked, Candidate, Reading, Source, Undecodable};

use crate::object::Kind;

/// Every kind that routes come from.
pub static SOURCES: [Source; 1] = [deployment::SOURCE];

impl Source {
    /// The source that reads this kind. None: no routes come from it.
    pub fn of(kind: Kind) -> Option<&'static Self> {
        SOURCES.iter().find(|source| source.kind == kind)
    }
}
