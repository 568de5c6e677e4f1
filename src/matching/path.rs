//! What a route's path looks like.

use std::sync::Arc;

use serde::Serialize;

/// What a request path must look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathMatch {
    Exact(Arc<str>),
    /// By whole segments: `/chat` matches `/chat` and `/chat/x`, never `/chatter`. Without a trailing slash, but for "/".
    Prefix(Arc<str>),
}

impl PathMatch {
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) if **prefix == *"/" => true,
            Self::Prefix(prefix) => path.strip_prefix(&**prefix).is_some_and(ends_segment),
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
