//! Commands, flags and paths that the pages for users and operators name exist.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::prose;
use crate::support::documentation::{blocks, documentation, pages_in, root};

const VERBS: [&str; 7] = ["run", "try", "check", "why", "crds", "echo", "hello"];

#[test]
fn commands_and_flags_are_those_of_the_binary() {
    let verbs: BTreeSet<_> = VERBS.into_iter().collect();
    let flags: BTreeSet<String> = VERBS.iter().flat_map(|verb| flags(verb)).collect();
    let (mut seen_verbs, mut seen_flags) = (BTreeSet::new(), 0);
    for (page, text) in for_users() {
        let shell = blocks(&text, "sh");
        let lines = shell.iter().flat_map(|block| block.lines());
        let prose = prose(&text).collect::<Vec<_>>().join("\n");
        for code in spans(&page, &prose).chain(lines) {
            let mut words = code.split([' ', '\n', '=', '[']);
            if code.starts_with("--") && !code.starts_with("-- ") {
                let flag = words.next().unwrap_or_default().trim_end_matches(',');
                assert!(flags.contains(flag), "{page}: there is no {flag}");
                seen_flags += 1;
            } else if let (Some("postern"), Some(verb)) = (words.next(), words.next()) {
                assert!(verbs.contains(verb), "{page}: there is no postern {verb}");
                seen_verbs.insert(verb.to_owned());
                for flag in words.filter(|word| word.starts_with("--")) {
                    assert!(flags.contains(flag), "{page}: there is no {flag} in {code:?}");
                }
            }
        }
    }
    assert_eq!(seen_verbs.len(), VERBS.len(), "{seen_verbs:?}");
    assert!(seen_flags > 20, "{seen_flags}");
}

#[test]
fn paths_of_the_repository_exist() {
    let mut seen = 0;
    for (page, text) in for_users() {
        let shell = blocks(&text, "sh");
        let words = shell.iter().flat_map(|block| block.split_whitespace());
        let prose = prose(&text).collect::<Vec<_>>().join("\n");
        for word in words.chain(spans(&page, &prose)) {
            let is_path = ["manifests/", "charts/", "tests/", "crds/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            if is_path {
                assert!(root().join(word).exists(), "{page}: there is no {word}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

/// README.md and the pages below it, without those for contributors.
fn for_users() -> Vec<(String, String)> {
    let pages = pages_in(&documentation()).chain([root().join("README.md")]);
    pages
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("reads")))
        .collect()
}

/// What a verb says that it takes.
fn flags(verb: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args([verb, "--help"])
        .output()
        .expect("runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// The inline code, which may go on in the next line.
fn spans<'a>(page: &str, prose: &'a str) -> impl Iterator<Item = &'a str> {
    assert!(
        prose.matches('`').count().is_multiple_of(2),
        "{page}: inline code does not end"
    );
    prose.split('`').skip(1).step_by(2)
}
