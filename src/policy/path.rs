//! How a request's path can be read. Apps differ in what they make of `%2F`, `//`, `..;` and the like; a rule that is to
//! keep somebody out must not be passed by a path that the app reads in another way.

use std::borrow::Cow;

use serde::Serialize;

/// All readings of one path. Most paths have one, which is the path itself.
#[derive(Debug)]
pub struct Readings<'a> {
    /// Percent-decoded, dot segments resolved (RFC 3986 sections 2.4 and 5.2.4).
    usual: Cow<'a, str>,
    /// Of an app that takes `\` and `%2F` for `/`, merges slashes, drops path parameters (`;x=1`) before it decodes, and to
    /// which a path ends where a NUL is. Empty: the usual one.
    merged: String,
    /// The readings of apps that do only some of that, that drop parameters after they decode, or that resolve nothing.
    others: Vec<String>,
    ambiguous: bool,
}

impl<'a> Readings<'a> {
    /// `path`: in origin form, verbatim, or the asterisk.
    pub fn of(path: &'a str) -> Self {
        // OPTIONS of everything there is (RFC 9110 section 7.1): what is kept from the root is kept from it.
        if path == "*" {
            return Self {
                usual: Cow::Borrowed(path),
                merged: "/".to_owned(),
                others: vec!["/".to_owned()],
                ambiguous: false,
            };
        }
        if is_plain(path) {
            return Self {
                usual: Cow::Borrowed(path),
                merged: String::new(),
                others: Vec::new(),
                ambiguous: false,
            };
        }
        let (literal, sound) = decode(path);
        let usual = resolve(&literal);
        // Some drop parameters before they decode, some after (`..%3Bx=1`, `;%2Fadmin`).
        let (early, _) = decode(&without_parameters(path));
        let liberal = |text: &str| resolve(&merge(&without_parameters(&text.replace('\\', "/"))));
        let mut others = vec![literal.clone()];
        for text in [&early, &literal] {
            let bare = without_parameters(text);
            others.push(liberal(text));
            others.extend([text, &bare].map(|text| resolve(text)));
            others.extend([text, &bare].map(|text| resolve(&merge(text))));
            others.extend(text.split_once('\0').map(|(before, _)| liberal(before)));
        }
        others.retain(|reading| *reading != usual);
        others.sort_unstable();
        others.dedup();
        Self {
            ambiguous: !sound || is_ambiguous(path),
            merged: liberal(early.split('\0').next().unwrap_or_default()),
            others,
            usual: Cow::Owned(usual),
        }
    }

    /// Percent-decoded, dot segments resolved: as most apps read it.
    pub fn usual(&self) -> &str {
        &self.usual
    }

    /// The same for all spellings that some app takes for one path.
    pub fn merged(&self) -> &str {
        if self.merged.is_empty() {
            &self.usual
        } else {
            &self.merged
        }
    }

    /// Whether apps may read it differently in ways that no client needs: `%2F`, `%5C`, `%00`, a backslash, encoded dot
    /// segments, empty segments, and escapes that are none.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Whether at least one reading matches.
    pub fn any(&self, mut matches: impl FnMut(&str) -> bool) -> bool {
        matches(&self.usual) || self.others.iter().any(|reading| matches(reading))
    }

    /// Whether every reading matches.
    pub fn all(&self, mut matches: impl FnMut(&str) -> bool) -> bool {
        matches(&self.usual) && self.others.iter().all(|reading| matches(reading))
    }
}

/// Nothing in it could be read in two ways: no escape, backslash, parameter, empty or dot segment.
pub fn is_plain(path: &str) -> bool {
    let mut before = 0;
    for &byte in path.as_bytes() {
        match byte {
            b'%' | b'\\' | b';' => return false,
            b'/' | b'.' if before == b'/' => return false,
            _ => {}
        }
        before = byte;
    }
    path != "*"
}

fn is_ambiguous(path: &str) -> bool {
    let encodes = |code: &str| {
        let escapes = path.as_bytes().windows(3);
        escapes
            .into_iter()
            .any(|escape| escape[0] == b'%' && escape[1..].eq_ignore_ascii_case(code.as_bytes()))
    };
    let encoded_dots = |segment: &str| {
        let dots = segment.to_ascii_lowercase().replace("%2e", ".");
        dots != segment && (dots == "." || dots == "..")
    };
    path.contains("//")
        || path.contains('\\')
        || ["2f", "5c", "00"].into_iter().any(encodes)
        || path.split('/').any(encoded_dots)
}

/// Decoded once, and whether every escape is one and the whole is UTF-8: an overlong slash is not.
fn decode(path: &str) -> (String, bool) {
    let mut bytes = Vec::with_capacity(path.len());
    let mut sound = true;
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'%').then(|| after.split_at_checked(2)).flatten();
        let decoded = escape.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits)
                .ok()
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        match decoded {
            Some((decoded, after)) => {
                bytes.push(decoded);
                rest = after;
            }
            None => {
                sound &= byte != b'%';
                bytes.push(byte);
                rest = after;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, sound),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), false),
    }
}

/// RFC 3986 section 5.2.4.
fn resolve(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    let mut trailing = false;
    while let Some(segment) = segments.next() {
        trailing = segments.peek().is_none() && matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let slash = if trailing && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

fn without_parameters(path: &str) -> String {
    let segments = path.split_inclusive('/');
    let bare = segments.map(|segment| match segment.split_once(';') {
        Some((kept, _)) if segment.ends_with('/') => [kept, "/"],
        Some((kept, _)) => [kept, ""],
        None => [segment, ""],
    });
    bare.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_asterisk_is_the_root_as_well() {
        let readings = Readings::of("*");
        assert_eq!((readings.usual(), readings.is_ambiguous()), ("*", false));
        assert!(readings.any(|path| path == "/"));
        assert!(!readings.all(|path| path == "/") && !readings.all(|path| path == "*"));
    }

    #[test]
    fn a_plain_path_is_its_only_reading() {
        for path in ["/", "/a", "/a/b/", "/a.b/c-d_e~f", "/a/b.c"] {
            let readings = Readings::of(path);
            assert!(
                matches!(readings.usual, Cow::Borrowed(usual) if usual == path),
                "{path}"
            );
            assert!(!readings.is_ambiguous() && readings.others.is_empty(), "{path}");
        }
    }

    #[test]
    fn paths_are_decoded_and_their_dot_segments_resolved() {
        for (path, usual) in [
            ("/%61dmin", "/admin"),
            ("/a%20b", "/a b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/%C3%A4", "/ä"),
        ] {
            let readings = Readings::of(path);
            assert_eq!((path, readings.usual()), (path, usual));
            assert!(!readings.is_ambiguous(), "{path}");
        }
    }

    #[test]
    fn what_no_client_needs_is_ambiguous() {
        for path in [
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "//a",
            "/a//b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/%2e",
            "/a%",
            "/a%zz",
            "/a%2",
            "/%c0%af",
            "/%ff",
        ] {
            assert!(Readings::of(path).is_ambiguous(), "{path}");
        }
        for path in ["/a%2eb", "/a..b", "/a;b", "/a%3Bb", "/a/", "/%252F"] {
            assert!(!Readings::of(path).is_ambiguous(), "{path}");
        }
    }

    #[test]
    fn every_way_to_spell_a_path_is_one_of_its_readings() {
        for path in [
            "/admin",
            "/admin;x=1",
            "/;a/admin",
            "/x/..;/admin",
            "/x/..%3b/admin",
            "/x/%2e%2e%3Ba=b/admin",
            "/admin%3Bx=1",
            "/admin%00.html",
            "/x/../admin%00/../x",
            "/x/../admin",
            "//admin",
            "/%2Fadmin",
            "/x%2F..%2Fadmin",
            "/\\admin",
            "/x/%5C../admin",
            "/%61dmin",
            "/./admin",
            "/x/%2e%2e/admin",
        ] {
            assert!(Readings::of(path).any(|reading| reading == "/admin"), "{path}");
        }
        // Parameters that leave a segment empty, to who merges slashes and to who does not; `%3B` in a name.
        for (path, reading) in [
            ("/a/;x/..;/b", "/b"),
            ("/a/;x/..;/b", "/a/b"),
            ("/a/%3Bx/..%3B/b", "/a/b"),
            ("/a%3Bb;x=1", "/a;b"),
            ("/x/..%3B/..;/a", "/x/a"),
        ] {
            assert!(Readings::of(path).any(|own| own == reading), "{path} as {reading}");
        }
        let readings = Readings::of("/public/../admin");
        assert!(readings.any(|reading| reading.starts_with("/public")));
        assert!(!readings.all(|reading| reading.starts_with("/public")));
    }

    proptest! {
        #[test]
        fn no_path_panics_and_usual_readings_hold_no_dot_segment(path in "/[a-c./%2eEfF5c0;\\\\]{0,24}") {
            let readings = Readings::of(&path);
            let dots = readings.usual().split('/').any(|segment| segment == "." || segment == "..");
            prop_assert!(!dots, "{}", readings.usual());
        }
    }
}

/// What becomes of paths that apps read in different ways, where a rule goes by the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AmbiguousPaths {
    Pass,
    Reject,
}
