//! Which part may name which: the rule that keeps data flowing one way. Reads the sources as text; comments do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Parts (folders or files of src) and the words that they may not use.
struct Rule {
    parts: fn() -> Vec<String>,
    forbidden: &'static [&'static str],
    because: &'static str,
}

const RULES: [Rule; 5] = [
    Rule {
        parts: data_plane,
        forbidden: &["crate::api", "kube", "k8s_openapi"],
        because: "the data plane sees no API type",
    },
    Rule {
        parts: data_plane,
        forbidden: &[
            "crate::admin",
            "crate::compile",
            "crate::config",
            "crate::publish",
            "crate::status",
            "crate::watch",
        ],
        because: "data flows one way",
    },
    Rule {
        parts: || vec!["compile".to_owned()],
        forbidden: &[
            "Instant",
            "SystemTime",
            "k8s_openapi::api",
            "kube",
            "std::env",
            "std::fs",
            "std::thread",
            "tokio",
        ],
        because: "compile is pure",
    },
    Rule {
        parts: all_below_app,
        forbidden: &["crate::app", "crate::cli"],
        because: "only app.rs knows all parts, and only the verbs know app.rs",
    },
    Rule {
        parts: all_below_app,
        forbidden: &["anyhow"],
        because: "parts have errors of their own; anyhow is for app, cli and main",
    },
];

#[test]
fn parts_name_only_what_they_may() {
    let mut violations = Vec::new();
    for rule in RULES {
        for part in (rule.parts)() {
            let files = sources(&part);
            assert!(!files.is_empty(), "there is no part {part}");
            for file in files {
                let text = fs::read_to_string(&file).unwrap();
                for (line, word) in uses(&text, rule.forbidden) {
                    violations.push(format!("{}:{line} names {word}: {}", file.display(), rule.because));
                }
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_checker_sees_names_however_they_are_written() {
    let bad = "\
//! kube is only a comment.
use kube::Client;
/* crate::api in a comment
   over kube lines */ use crate::{live, api};
use crate :: api::Thing;
let url = \"http://kube\"; // kube
fn f(c: k8s_openapi::Service) {}
use crate::{
    store::{Store, Kind},
    api::deployment,
};
let kubelet = cubekube;
";
    let found: Vec<_> = uses(bad, &["kube", "k8s_openapi", "crate::api"]).collect();
    assert_eq!(
        found,
        [
            (2, "kube"),
            (4, "crate::api"),
            (5, "crate::api"),
            (7, "k8s_openapi"),
            (10, "crate::api")
        ]
    );
    assert_eq!(
        uses("// kube\nuse super::snapshot;\n", &["kube", "crate::api"]).count(),
        0
    );
}

fn data_plane() -> Vec<String> {
    [
        "egress",
        "live",
        "policy",
        "proxy",
        "shared",
        "snapshot",
        "state",
        "tls",
        "websocket",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// All that stands in src, but for the top: app, cli, and the roots of library and binary.
fn all_below_app() -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let parts: BTreeSet<_> = names
        .filter(|name| !["app", "cli", "lib", "main"].contains(&name.as_str()))
        .collect();
    parts.into_iter().collect()
}

/// Every use of a forbidden word, with its line. `crate::x` also stands for an `x` inside `use crate::{...}`.
fn uses<'a>(text: &str, forbidden: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let code = expanded(&code_only(text));
    let mut found: Vec<_> = code
        .lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let words = forbidden.iter().filter(|word| names(line, word));
            words.map(move |word| (index + 1, *word)).collect::<Vec<_>>()
        })
        .collect();
    found.dedup();
    found.into_iter()
}

/// As a whole word: `kube` is neither in `kubelet` nor in `cubekube`.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Comments and string literals blanked out, lines kept.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    code
}

/// Of the literal at the start, quotes included. Raw strings with quotes inside end early, which can only show too much.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `use crate::{a, b::{c, d}}` with `crate::` before the names of its first level, and no blanks around `::`.
fn expanded(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(at) = code.find(" ::") {
        code.remove(at);
    }
    while let Some(at) = code.find(":: ") {
        code.remove(at + 2);
    }
    let mut result = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::{") {
        let (before, group) = rest.split_at(at + "crate::{".len());
        result.push_str(before);
        let (inside, after) = first_level(group);
        result.push_str(&inside);
        rest = after;
    }
    result + rest
}

fn first_level(group: &str) -> (String, &str) {
    let mut depth = 0_usize;
    let mut starts = true;
    let mut inside = String::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return (inside, &group[at..]),
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && c.is_alphanumeric() => {
                inside.push_str("crate::");
                starts = false;
            }
            _ => {}
        }
        inside.push(c);
    }
    (inside, "")
}

/// The files of one part: `src/x.rs` and all under `src/x/`. Tests may name what they like.
fn sources(part: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.join(part)];
    let file = src.join(format!("{part}.rs"));
    if file.exists() {
        files.push(file);
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
                files.push(path);
            }
        }
    }
    files
}
