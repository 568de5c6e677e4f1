//! A regular expression that tenants write: it always matches the whole text, one look-up a byte.
//!
//! "Linear" is not enough: an automaton that is built while it matches costs its size for every byte once its cache is full,
//! and runs within the poll of a request, where all others wait. So the whole automaton is built where the pattern is
//! compiled. One that does not fit is refused there, and nothing that a client sends can make another one expensive.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// An anchored regular expression. Equal ones share their automaton.
#[derive(Clone, Debug)]
pub struct Regex(Arc<Program>);

#[derive(Debug)]
struct Program {
    /// With its anchors.
    pattern: String,
    ignore_case: bool,
    automaton: dense::DFA<Vec<u32>>,
}

/// The most bytes that the automaton of a regular expression may take; a larger one is refused where it is compiled.
pub const MAX_REGEX: usize = 1024 * 1024;
/// A longer text matches none.
pub const MAX_TEXT: usize = 4 * 1024;

/// Why a pattern is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RegexError {
    #[error("{0}")]
    Invalid(String),
    /// Found out by building it, as far as the bound goes.
    #[error(
        "it is too complex: its automaton would take more than {} KiB. Smaller counts make it smaller, and (?-u:\\w) in place \
         of \\w where only ASCII is meant",
        MAX_REGEX / 1024
    )]
    TooComplex,
}

/// A pattern with its anchors, and whether case is ignored.
type Key = (String, bool);

/// Automata that are in use.
static PROGRAMS: LazyLock<Mutex<HashMap<Key, Weak<Program>>>> = LazyLock::new(Mutex::default);
/// Patterns that were lately found to be too complex: to find that out takes longer than to build one that is not.
static TOO_COMPLEX: LazyLock<Mutex<VecDeque<Key>>> = LazyLock::new(Mutex::default);
const MAX_TOO_COMPLEX: usize = 256;

impl Regex {
    /// The pattern must match the whole text, whatever line ends the text contains: `%0A` does not bypass a rule. Fails for
    /// a pattern that is invalid, or too large when compiled.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, RegexError> {
        let syntax = syntax::Config::new()
            .case_insensitive(ignore_case)
            .dot_matches_new_line(true);
        // By itself first: what is anchored may not break out of its group.
        syntax::parse_with(pattern, &syntax).map_err(|error| RegexError::Invalid(error.to_string()))?;
        let key = (format!(r"\A(?:{pattern})\z"), ignore_case);
        if let Some(program) = PROGRAMS.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(Self(program));
        }
        if TOO_COMPLEX.lock().contains(&key) {
            return Err(RegexError::TooComplex);
        }
        // Without a lock: it may take milliseconds.
        let automaton = automaton(&key.0, syntax).inspect_err(|error| {
            if matches!(error, RegexError::TooComplex) {
                let mut known = TOO_COMPLEX.lock();
                known.truncate(MAX_TOO_COMPLEX - 1);
                known.push_front(key.clone());
            }
        })?;
        let program = Arc::new(Program {
            automaton,
            pattern: key.0.clone(),
            ignore_case,
        });
        PROGRAMS.lock().insert(key, Arc::downgrade(&program));
        Ok(Self(program))
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let input = Input::new(text).anchored(Anchored::Yes).earliest(true);
        text.len() <= MAX_TEXT
            && self
                .0
                .automaton
                .try_search_fwd(&input)
                .is_ok_and(|found| found.is_some())
    }

    /// The pattern with its anchors.
    pub fn as_str(&self) -> &str {
        &self.0.pattern
    }

    /// Bytes that its automaton takes.
    pub fn size(&self) -> usize {
        self.0.automaton.memory_usage()
    }
}

fn automaton(pattern: &str, syntax: syntax::Config) -> Result<dense::DFA<Vec<u32>>, RegexError> {
    let built = dense::Builder::new()
        .syntax(syntax)
        .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_REGEX)))
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .dfa_size_limit(Some(MAX_REGEX))
                // What building it takes, which is let go.
                .determinize_size_limit(Some(2 * MAX_REGEX)),
        )
        .build(pattern);
    built.map_err(|error| {
        if error.is_size_limit_exceeded() {
            return RegexError::TooComplex;
        }
        // Its cause says what; the error by itself says which phase.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        RegexError::Invalid(cause.unwrap_or_else(|| error.to_string()))
    })
}

impl Drop for Program {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.pattern), self.ignore_case);
        let mut programs = PROGRAMS.lock();
        // Another one may have taken its place meanwhile.
        if programs.get(&key).is_some_and(|program| program.strong_count() == 0) {
            programs.remove(&key);
        }
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str() && self.0.ignore_case == other.0.ignore_case
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
        self.0.ignore_case.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for pattern in [
            "a)|(b",
            "(",
            "a{1000}{1000}",
            r"(a)\1",
            "(?=a)",
            "/[01]*1[01]{1500}x0",
            "[01]*1[01]{20}",
        ] {
            assert!(Regex::new(pattern, false).is_err(), "{pattern}");
        }
        let error = Regex::new("/[01]*1[01]{1500}x0", false).unwrap_err().to_string();
        assert!(error.contains("1024 KiB"), "{error}");
    }

    #[test]
    fn what_people_write_fits() {
        for pattern in [
            "/v[0-9]+/.*",
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            r"/(users|orders|carts)/[^/]{1,64}/items/\d{1,10}",
            r".*\.(php|asp|aspx|jsp|cgi)",
            r"(?i).*(select|union|insert|drop|update)\s.*",
            r"Mozilla/5\.0 \(.*\) AppleWebKit/.* \(KHTML, like Gecko\) .*",
            r".*(?-u:\b)(curl|wget|python-requests)(?-u:\b).*",
            r"\w+@\w+\.\w+",
            r"(?-u:\w+@\w+\.\w{2,8})",
            r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,4}",
        ] {
            let regex = Regex::new(pattern, false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.size() <= MAX_REGEX, "{pattern}: {}", regex.size());
        }
    }

    #[test]
    fn equal_regexes_share_their_automaton_and_nothing_is_kept() {
        let regex = |pattern, ignore_case| Regex::new(pattern, ignore_case).unwrap();
        let one = regex("/shared", false);
        assert!(Arc::ptr_eq(&one.0, &regex("/shared", false).0));
        assert_eq!(one, regex("/shared", false));
        assert_ne!(one, regex("/shared", true));
        assert_ne!(one, regex("/b", false));
        let key = (one.as_str().to_owned(), false);
        drop(one);
        assert!(!PROGRAMS.lock().contains_key(&key));
    }

    proptest! {
        /// The model is the library's matcher that needs no automaton.
        #[test]
        fn it_matches_what_a_naive_engine_does(pattern in "[ab.|()*+?\\[\\]^$]{0,12}", text in "[abA\\n]{0,12}", ignore_case: bool) {
            let anchored = format!(r"\A(?:{pattern})\z");
            let model = regex::RegexBuilder::new(&anchored).case_insensitive(ignore_case).dot_matches_new_line(true).build();
            match (Regex::new(&pattern, ignore_case), regex::Regex::new(&pattern).and(model)) {
                (Ok(ours), Ok(model)) => prop_assert_eq!(ours.matches(&text), model.is_match(&text)),
                (ours, model) => prop_assert_eq!(ours.is_ok(), model.is_ok()),
            }
        }
    }
}
