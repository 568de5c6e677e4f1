//! What the patterns of a document may cost. The matcher builds their automata while it matches, and past its cache a byte
//! costs the size of the pattern: so only patterns are taken of which the whole automaton fits.

use std::collections::HashSet;

use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;
use serde_json::Value;

use super::invalid::Invalid;
use super::schema::Definition;

/// The largest program and automaton that a pattern may compile to, and the largest cache that it has per thread, in bytes.
pub const MAX_PATTERN: usize = 1024 * 1024;
/// What the automata of all patterns of a document would take.
const MAX_PATTERNS: usize = 4 * 1024 * 1024;

/// Bytes that the automata of all patterns would take. An error names the first schema of which a pattern is too complex.
pub fn bound(definitions: &[Definition]) -> Result<usize, Invalid> {
    let mut seen = HashSet::new();
    let mut size = 0;
    for definition in definitions {
        let mut patterns = Vec::new();
        collect(&definition.schema, &definition.pointer, &mut patterns);
        for (place, pattern) in patterns.into_iter().filter(|(_, pattern)| seen.insert(*pattern)) {
            let too_complex = |what: &str| Invalid::at(&place, what.to_owned());
            let needed = automaton_size(pattern).ok_or_else(|| {
                too_complex(&format!(
                    "is too complex a pattern: its automaton would take more than {} KiB",
                    MAX_PATTERN / 1024
                ))
            })?;
            size += needed;
            if size > MAX_PATTERNS {
                let bound = MAX_PATTERNS / 1024;
                return Err(too_complex(&format!(
                    "is one pattern too many: their automata take more than {bound} KiB"
                )));
            }
        }
    }
    Ok(size)
}

/// Each with its place in the document, whose depth is bounded.
fn collect<'v>(schema: &'v Value, place: &str, to: &mut Vec<(String, &'v str)>) {
    match schema {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect(item, &format!("{place}/{at}"), to);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                // RFC 6901 section 3.
                let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (name.as_str(), value) {
                    ("pattern", Value::String(pattern)) => to.push((place, pattern)),
                    ("patternProperties", Value::Object(patterns)) => {
                        to.extend(patterns.keys().map(|pattern| (place.clone(), pattern.as_str())));
                        collect(value, &place, to);
                    }
                    _ => collect(value, &place, to),
                }
            }
        }
        _ => {}
    }
}

/// None: it does not fit. One that is invalid takes nothing: the compiler says what is wrong with it.
fn automaton_size(pattern: &str) -> Option<usize> {
    let Ok(pattern) = jsonschema_regex::to_rust_regex(pattern) else {
        return Some(0);
    };
    if regex_automata::util::syntax::parse(&pattern).is_err() {
        return Some(0);
    }
    let built = dense::Builder::new()
        .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_PATTERN)))
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Unanchored)
                .unicode_word_boundary(true)
                .dfa_size_limit(Some(MAX_PATTERN))
                .determinize_size_limit(Some(2 * MAX_PATTERN)),
        )
        .build(&pattern);
    built.ok().map(|automaton| automaton.memory_usage())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_documents_have_fits_and_what_explodes_does_not() {
        for pattern in [
            "^[a-z0-9-]{1,63}$",
            r"^\d{4}-\d{2}-\d{2}$",
            r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
            "^(draft|paid|sent)$",
            r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
            r"\bword\b",
            r"^\S+$",
        ] {
            assert!(automaton_size(pattern).is_some(), "{pattern}");
        }
        for pattern in ["^[01]*1[01]{1500}x0$", "1[01]{20}x$", r"^(\w|\pL)*a\w{20}$"] {
            assert_eq!(automaton_size(pattern), None, "{pattern}");
        }
    }
}
