//! A regular expression in linear time, that always matches the whole text.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::RegexBuilder;

/// An anchored regular expression. Its length and its cost are bounded, since tenants write it.
#[derive(Clone, Debug)]
pub struct Regex {
    compiled: regex::Regex,
    ignore_case: bool,
}

/// The most bytes that a compiled regular expression may take; a larger one is refused where it is compiled.
const MAX_REGEX: usize = 256 * 1024;

impl Regex {
    /// The pattern must match the whole text, whatever line ends the text contains: `%0A` does not bypass a rule. Fails for
    /// a pattern that is invalid, or too large when compiled.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, String> {
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .case_insensitive(ignore_case)
                .dot_matches_new_line(true)
                .size_limit(MAX_REGEX)
                .dfa_size_limit(MAX_REGEX)
                .build()
                .map_err(|error| error.to_string())
        };
        // By itself first: what is anchored may not break out of its group.
        build(pattern)?;
        let compiled = build(&format!(r"\A(?:{pattern})\z"))?;
        Ok(Self { compiled, ignore_case })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The pattern with its anchors.
    pub fn as_str(&self) -> &str {
        self.compiled.as_str()
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() && self.ignore_case == other.ignore_case
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
        self.ignore_case.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_the_whole_text() {
        let regex = Regex::new("/a.*|/b", false).unwrap();
        assert!(["/a", "/axy", "/b", "/a\nb"].iter().all(|path| regex.matches(path)));
        assert!(["x/a", "/bx", "/b\n", "/A"].iter().all(|path| !regex.matches(path)));
        assert!(Regex::new("/a", true).unwrap().matches("/A"));
    }

    #[test]
    fn a_regex_that_is_none_or_too_large_is_refused() {
        for pattern in ["a)|(b", "(", "a{1000}{1000}", r"(a)\1", "(?=a)"] {
            assert!(Regex::new(pattern, false).is_err(), "{pattern}");
        }
    }

    #[test]
    fn regexes_of_one_pattern_are_equal_unless_one_ignores_case() {
        let regex = |pattern, ignore_case| Regex::new(pattern, ignore_case).unwrap();
        assert_eq!(regex("/a", false), regex("/a", false));
        assert_ne!(regex("/a", false), regex("/a", true));
        assert_ne!(regex("/a", false), regex("/b", false));
    }
}
