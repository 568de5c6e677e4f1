//! Why settings cannot be used.

use std::path::PathBuf;

/// Why a start, or a reading of the file, has no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the settings file {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("settings file {}: {cause}", path.display())]
    File { path: PathBuf, cause: Invalid },
    #[error(transparent)]
    Flags(#[from] Invalid),
}

/// What is wrong with a setting, wherever it was made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("the file is empty (write {{}} to set nothing)")]
    Empty,
    #[error("not a YAML map: {0}")]
    Syntax(String),
    #[error("key {0:?}: {1}")]
    Key(String, String),
    #[error("{0}")]
    Value(String),
}

/// What is wrong with the value of this key, which is named as in the file.
pub(super) fn invalid(key: &str, cause: impl ToString) -> Invalid {
    Invalid::Key(key.to_owned(), cause.to_string())
}
