//! What is wrong with an object, and how it is said.

use std::fmt;

use crate::condition::{ConditionReason, ConditionType, MAX_MESSAGE};
use crate::text::cut;

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub r#type: ConditionType,
    pub status: bool,
    pub reason: ConditionReason,
    /// For a person: which field or name, what is wrong, whose it is.
    pub message: String,
}

/// The path of a field within its object, such as `spec.paths[2].backends[0].service`.
pub type Field = Box<str>;

/// Something that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// None: the message itself says what it is about.
    pub field: Option<Field>,
    pub reason: ConditionReason,
    /// Of the field: what is wrong, and what comes of it.
    pub message: String,
}

/// A value out of an object, in quotes and cut short: messages stay readable, and bounded.
pub struct Quoted<'a>(pub &'a str);

pub(super) fn join(problems: &[Problem]) -> String {
    let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
    cut_message(messages.join("; "))
}

pub(super) fn cut_message(text: String) -> String {
    cut(&text, MAX_MESSAGE).into_owned()
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Problem {
    /// A value that cannot be used.
    pub fn invalid(field: impl Into<Field>, message: impl Into<String>) -> Self {
        Self::at(field, ConditionReason::Invalid, message)
    }

    /// A problem of this field.
    pub fn at(field: impl Into<Field>, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::of_object(reason, message)
        }
    }

    /// No field is to blame alone.
    pub fn of_object(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            field: None,
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        let end = self.0.floor_char_boundary(SHOWN);
        write!(f, "{:?}", &self.0[..end])?;
        if end < self.0.len() {
            f.write_str("...")?;
        }
        Ok(())
    }
}
