//! Why a rule cannot be used, and where.

use std::fmt;

use http::HeaderValue;

use crate::compile::problem::Problem;
use crate::condition::ConditionReason;

/// Why a field cannot be used, and which one, as far as that is known.
#[derive(Debug)]
pub struct Invalid {
    field: String,
    reason: ConditionReason,
    message: String,
}

/// Says where in the object it stands.
pub trait At {
    fn at(self, field: impl fmt::Display) -> Self;
}

/// Items of a list, where the field has no bound of its own.
pub const MAX_ITEMS: usize = 32;

/// Runs `make` and prefixes its error and its notes with `field`.
pub fn noted<T>(
    field: &str,
    notes: &mut Vec<Invalid>,
    make: impl FnOnce(&mut Vec<Invalid>) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    let mut own = Vec::new();
    let made = make(&mut own).at(field);
    notes.extend(own.into_iter().map(|note| note.within(field)));
    made
}

/// Each of a list, by `parse`.
pub fn names<T>(list: &[String], parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Box<[T]>, Invalid> {
    bounded(list, 0)?;
    let parsed = list.iter().enumerate();
    parsed
        .map(|(at, text)| parse(text).at(format_args!("[{at}]")))
        .collect()
}

/// The text itself is not told: it may be a secret that an app expects.
pub fn value(text: &str) -> Result<HeaderValue, Invalid> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let value = HeaderValue::from_str(text).ok().filter(|_| printable);
    value.ok_or_else(|| Invalid::new("must be printable ASCII without leading or trailing spaces"))
}

/// An error if the list has fewer than `min` or more than MAX_ITEMS items.
pub fn bounded<T>(list: &[T], min: usize) -> Result<(), Invalid> {
    if (min..=MAX_ITEMS).contains(&list.len()) {
        return Ok(());
    }
    let count = list.len();
    Err(Invalid::new(format!(
        "has {count} items, but {min} to {MAX_ITEMS} are allowed"
    )))
}

/// Exactly one of several fields is to be given: an older Postern sees none where a newer one knows another.
pub fn names_one<const N: usize>(fields: [(&str, bool); N]) -> Result<(), Invalid> {
    match fields.iter().filter(|(_, given)| *given).count() {
        1 => Ok(()),
        count => {
            let all = fields.map(|(field, _)| field).join(", ");
            let found = if count == 0 { "none" } else { "several" };
            Err(Invalid::new(format!("needs exactly one of {all}, but has {found}")))
        }
    }
}

impl Invalid {
    /// A value that cannot be used.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(ConditionReason::Invalid, message)
    }

    /// With a reason of its own, such as that of an object that does not exist.
    pub fn of(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            reason,
            message: message.into(),
        }
    }

    /// Puts `field` before what is known of the field's path.
    pub fn within(mut self, field: impl fmt::Display) -> Self {
        self.field = format!("{field}{}", self.field);
        self
    }

    /// As it is reported.
    pub fn problem(self) -> Problem {
        Problem::at(self.field, self.reason, self.message)
    }
}

impl<T> At for Result<T, Invalid> {
    fn at(self, field: impl fmt::Display) -> Self {
        self.map_err(|invalid| invalid.within(field))
    }
}
