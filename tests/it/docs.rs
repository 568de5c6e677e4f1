//! What the docs name exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use postern::reason::Reason;

fn docs() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = fs::read_dir(root.join("charts/postern/docs")).unwrap();
    let pages = folder.map(|entry| entry.unwrap().path());
    let pages = pages.chain([root.join("README.md")]);
    pages
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn error_codes_in_the_docs_are_those_of_the_code() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let owners: BTreeSet<_> = codes.iter().filter_map(|code| code.split(':').next()).collect();
    let mut named = BTreeSet::new();
    for (page, text) in docs() {
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
