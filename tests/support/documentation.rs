//! The pages of the documentation, and the blocks of code in them.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the pages for users and operators are.
pub fn documentation() -> PathBuf {
    root().join("charts/postern/docs")
}

/// Those at the top level, those of the documentation, and its decisions.
pub fn pages() -> Vec<(String, String)> {
    let folders = [root().to_owned(), documentation(), documentation().join("decisions")];
    let pages = folders.iter().flat_map(|folder| pages_in(folder));
    pages
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("reads")))
        .collect()
}

pub fn pages_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).expect("is there");
    let paths = entries.map(|entry| entry.expect("is there").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// The content of the page's blocks in this language, fences excluded.
pub fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("{language}\n");
    // Every other part lies between an opening fence and a closing one.
    let inside = text.split("```").skip(1).step_by(2);
    inside.filter_map(|block| block.strip_prefix(&fence)).collect()
}
