//! Links within the documentation lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::prose;
use crate::support::documentation::{documentation, pages, pages_in, root};

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for (page, text) in pages() {
        let page = Path::new(&page);
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.to_owned(),
                path => page.parent().expect("is in a folder").join(path),
            };
            let there = target.exists();
            assert!(there, "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("reads");
                assert!(
                    anchors(&text).contains(anchor),
                    "{}: {link} names no heading",
                    page.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}

#[test]
fn the_readme_links_every_page() {
    let linked = linked_by("README.md");
    for page in pages_in(&documentation()).chain(pages_in(root())) {
        let is_itself = page.ends_with("README.md");
        assert!(is_itself || linked.contains(&page), "{}", page.display());
    }
}

#[test]
fn the_architecture_links_every_decision() {
    let linked = linked_by("ARCHITECTURE.md");
    let mut decisions = 0;
    for page in pages_in(&documentation().join("decisions")) {
        assert!(linked.contains(&page), "{}", page.display());
        decisions += 1;
    }
    assert!(decisions > 5, "{decisions}");
}

/// What a page of the top level links to.
fn linked_by(page: &str) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(root().join(page)).expect("reads");
    links(&text)
        .map(|link| root().join(link.split('#').next().unwrap_or_default()))
        .collect()
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let parts = prose(text).flat_map(|line| line.split("](").skip(1));
    parts.filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// Of headings, as they are made of them: small letters, hyphens for spaces, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c))
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn anchors_are_made_of_headings() {
    let text = "# What Postern says\n```sh\n# not one\n```\n## 400, 421, 426, 308\n## Drain (SIGTERM)\n";
    let found = ["what-postern-says", "400-421-426-308", "drain-sigterm"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(found));
}
