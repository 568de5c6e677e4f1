//! Why a folder of manifests is no source.

use std::io;
use std::path::PathBuf;

use crate::watch::manifests::Problem;

/// Why the folder is no source.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    #[error("{0} cannot be read: {1}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0} cannot be watched: {1}")]
    Watch(PathBuf, #[source] notify::Error),
    #[error("{}", refusal(.0))]
    Unusable(Vec<Problem>),
}

/// Somebody has to mend all of them; a terminal shows no more than these.
const MAX_PROBLEMS: usize = 20;

/// A text of several lines, each with what an editor needs to find the place.
fn refusal(problems: &[Problem]) -> String {
    let told = problems.iter().take(MAX_PROBLEMS);
    let mut text = told.fold(
        "the manifests cannot be used as they are (--lenient starts without what is broken)".to_owned(),
        |text, problem| format!("{text}\n  {problem}"),
    );
    if let Some(more @ 1..) = problems.len().checked_sub(MAX_PROBLEMS) {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}
