//! Tables in the documentation say what the code says. `UPDATE_GENERATED=1 cargo test docs` rewrites them; what stands around
//! them is written by hand, and names only what exists.

mod commands;
mod errors;
mod flags;
mod gate;
mod limits;
mod links;
mod manifests;
mod values;
mod walks;

use std::collections::BTreeSet;
use std::fs;

use postern::metrics::family;
use postern::metrics::family::Kind;
use postern::reason::{CLOSED_REQUEST, Reason};
use strum::VariantArray;

use crate::support::documentation::{documentation, pages};

#[test]
fn metrics_are_those_of_the_code() {
    let rows = family::ALL.iter().map(|family| {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        [
            code(&family.full_name()),
            kind(family.kind).to_owned(),
            labels.join(", "),
            family.help.to_owned(),
        ]
    });
    assert_table(
        "metrics.md",
        "metrics",
        ["metric", "type", "labels", "description"],
        rows,
    );
}

#[test]
fn error_codes_in_the_docs_are_those_of_the_code() {
    let (codes, owners) = (codes(), owners());
    let mut named = BTreeSet::new();
    for (page, text) in pages() {
        for word in text.split(|c: char| !c.is_ascii_lowercase() && c != ':' && c != '_') {
            if let Some((owner, code)) = word.split_once(':')
                && owners.contains(owner)
                && !code.is_empty()
            {
                assert!(codes.contains(word), "{page}: there is no {word}");
                named.insert(word.to_owned());
            }
        }
    }
    assert!(named.len() > 15, "{named:?}");
}

fn codes() -> BTreeSet<&'static str> {
    let reasons = Reason::VARIANTS.iter().map(|reason| reason.code());
    reasons.chain([CLOSED_REQUEST]).collect()
}

/// What codes begin with.
fn owners() -> BTreeSet<&'static str> {
    codes().iter().filter_map(|code| code.split(':').next()).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Between the markers of this name, in a file of the documentation.
fn assert_table<const N: usize>(file: &str, name: &str, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut lines = vec![line(&head.map(str::to_owned)), line(&head.map(|_| "---".to_owned()))];
    lines.extend(rows.into_iter().map(|row| line(&row)));
    let wanted = format!("\n{}\n", lines.join("\n"));
    let path = documentation().join(file);
    let text = fs::read_to_string(&path).expect("reads");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("\n<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the table begins");
    let (found, after) = rest.split_once(&end).expect("the table ends");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).expect("writes");
    } else {
        let stale = format!("{file} is stale: run UPDATE_GENERATED=1 cargo test docs");
        assert_eq!(found, wanted, "{stale}");
    }
}

fn line<const N: usize>(cells: &[String; N]) -> String {
    format!(
        "| {} |",
        cells.each_ref().map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}

fn page(name: &str) -> String {
    fs::read_to_string(documentation().join(name)).expect("reads")
}

/// The lines that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}
