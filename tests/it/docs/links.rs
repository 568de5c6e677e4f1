//! Links within the documentation lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{documentation, pages, prose};

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).expect("reads");
    let linked: BTreeSet<PathBuf> = links(&text)
        .map(|link| root.join(link.split('#').next().unwrap_or_default()))
        .collect();
    for page in fs::read_dir(documentation()).expect("is there") {
        let page = page.expect("is there").path();
        assert!(linked.contains(&page), "{}", page.display());
    }
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
