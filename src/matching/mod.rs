//! What parts of a request are compared with: texts, paths and query parameters, compiled once and compared without
//! allocating. Routes choose by these, and policies build their conditions on them.

pub mod path;
pub mod query;
pub mod regex;
pub mod request;
pub mod text;

pub use path::PathMatch;
pub use regex::Regex;
pub use request::{Conditions, Head, HeaderMatch, Matches, QueryMatch};
pub use text::{Text, TextKind};
