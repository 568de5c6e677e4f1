//! What a route's path looks like.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::regex::Regex;
use crate::text::printed;

/// What a request path must look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathMatch {
    /// Byte by byte, the trailing slash too.
    Exact(Arc<str>),
    /// By whole segments: `/chat` matches `/chat` and `/chat/x`, never `/chatter`. Without a trailing slash, but for "/".
    Prefix(Arc<str>),
    /// The whole path. Boxed, since few have it and routes are many.
    #[serde(serialize_with = "printed::text")]
    Regex(Box<Regex>),
}

impl PathMatch {
    /// `path` is compared as it is: whoever calls decides whether it is decoded.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) if **prefix == *"/" => true,
            Self::Prefix(prefix) => path.strip_prefix(&**prefix).is_some_and(ends_segment),
            Self::Regex(regex) => regex.matches(path),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "Exact {path}"),
            Self::Prefix(path) => write!(f, "Prefix {path}"),
            Self::Regex(regex) => write!(f, "Regex {regex}"),
        }
    }
}

/// Whether a segment of the path ends where this rest of it begins.
pub(super) fn ends_segment(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_path_is_that_path_alone() {
        let exact = PathMatch::Exact("/chat".into());
        assert!(exact.matches("/chat"));
        assert!(
            ["/chat/", "/chat/a", "/Chat", "/cha", "/"]
                .iter()
                .all(|path| !exact.matches(path))
        );
    }

    #[test]
    fn a_prefix_goes_by_whole_segments() {
        let prefix = PathMatch::Prefix("/chat".into());
        assert!(
            ["/chat", "/chat/", "/chat/a", "/chat//"]
                .iter()
                .all(|path| prefix.matches(path))
        );
        assert!(
            ["/chatter", "/", "/cha", "/a/chat"]
                .iter()
                .all(|path| !prefix.matches(path))
        );
        let root = PathMatch::Prefix("/".into());
        assert!(["/", "/chat", "//", "*"].iter().all(|path| root.matches(path)));
    }
}
