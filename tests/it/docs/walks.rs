//! Files and functions that the guides name are there: whoever moves one finds the page that speaks of it.

use std::fs;
use std::path::Path;

use super::prose;
use crate::support::documentation::root;

/// Pages, and the folder that the paths on them are relative to.
const GUIDES: [(&str, &str); 2] = [("ARCHITECTURE.md", "src"), ("CONTRIBUTING.md", "")];

#[test]
fn what_the_guides_name_is_there() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for (page, folder) in GUIDES {
        let text = fs::read_to_string(root().join(page)).expect("reads");
        for quoted in prose(&text).flat_map(quoted) {
            let (path, function) = quoted.split_once(": ").unwrap_or((quoted, ""));
            if !is_path(path) || !path.contains('/') && function.is_empty() {
                continue;
            }
            found += 1;
            let in_folder = root().join(folder).join(path);
            let file = if in_folder.exists() {
                in_folder
            } else {
                root().join(path)
            };
            if !file.exists() || !function.is_empty() && !defines(&file, function) {
                wrong.push(format!("{page}: {quoted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these are not there:\n{}", wrong.join("\n"));
    assert!(found > 80, "{found}");
}

/// What stands between backticks on one line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Files and folders of this repository; patterns with a `<` are none.
fn is_path(text: &str) -> bool {
    let file = [".rs", ".toml", ".md", ".yaml", ".json"]
        .iter()
        .any(|end| text.ends_with(end));
    let folder = ["src/", "tests/", "charts/", "manifests/"]
        .iter()
        .any(|start| text.starts_with(start));
    (file || folder) && !text.contains(['<', ' ', '*'])
}

fn defines(file: &Path, function: &str) -> bool {
    let text = fs::read_to_string(file).expect("reads");
    let words: Vec<_> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(2).any(|pair| pair == ["fn", function])
}
