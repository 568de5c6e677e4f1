//! What a request does otherwise than the document says. It may be shown to whoever sent it, and logged: it never holds
//! what was sent.

use std::fmt;

use super::validator::Mismatch;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub place: Place,
    /// Into the value, as a JSON pointer; `*` for a key that the document does not name.
    pub pointer: String,
    pub message: String,
}

/// Names are the document's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Request,
    Path(Box<str>),
    Query(Box<str>),
    Header(Box<str>),
    Cookie(Box<str>),
    Body,
}

const MAX_MESSAGE: usize = 300;

impl Violation {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            pointer: String::new(),
            message: message.into(),
        }
    }

    pub fn of(place: Place, mismatch: Mismatch) -> Self {
        Self {
            place,
            pointer: mismatch.pointer,
            message: mismatch.message,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.pointer.is_empty() { "" } else { " at " };
        let text = format!("{}{at}{} {}", self.place, self.pointer, self.message);
        f.write_str(&text[..text.floor_char_boundary(MAX_MESSAGE)])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("the request"),
            Self::Path(name) => write!(f, "path parameter {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Body => f.write_str("the body"),
        }
    }
}
