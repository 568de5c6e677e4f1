//! Whether an array's items differ, as JSON Schema compares: numbers by value, objects whatever their order. By sorting:
//! no input makes that slow.

use std::cmp::Ordering;

use serde_json::{Number, Value};

pub fn are_unique(items: &[Value]) -> bool {
    let mut sorted: Vec<_> = items.iter().collect();
    sorted.sort_unstable_by(|a, b| compare(a, b));
    sorted.windows(2).all(|pair| compare(pair[0], pair[1]).is_ne())
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => lists(a.iter(), b.iter(), compare),
        // Keys are in order already.
        (Value::Object(a), Value::Object(b)) => lists(a.iter(), b.iter(), |(key, value), (other_key, other)| {
            key.cmp(other_key).then_with(|| compare(value, other))
        }),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn lists<T>(
    mut a: impl Iterator<Item = T>,
    mut b: impl Iterator<Item = T>,
    compare: impl Fn(T, T) -> Ordering,
) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                other => return other,
            },
            (a, b) => return a.is_some().cmp(&b.is_some()),
        }
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn numbers(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // At least one has a fraction or is beyond what a whole number can be, where both are exact enough as floats.
        _ => a
            .as_f64()
            .unwrap_or_default()
            .total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

/// `1.0` is 1.
fn whole(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let number = number.as_f64()?;
    // Every float as large as this is whole and fits.
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the bounds")]
    (number.fract() == 0.0 && number.abs() < 1e38).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use super::are_unique;

    #[test]
    fn values_are_compared_as_json_schema_does() {
        for (items, unique) in [
            ("[]", true),
            ("[1]", true),
            ("[1, 2, 3, 1]", false),
            ("[1, 1.0]", false),
            ("[0, -0.0]", false),
            ("[0.0, -0.0]", false),
            ("[1.5, 1.5]", false),
            ("[18446744073709551615, 18446744073709551614]", true),
            ("[9007199254740993, 9007199254740992.0]", true),
            (r#"[1, "1", true, null, [1], {"1": 1}]"#, true),
            ("[[], [[]], [[[]]], [[], []]]", true),
            (r#"[{"a": 1, "b": 2}, {"b": 2, "a": 1}]"#, false),
            (r#"[{"a": 1, "b": 2}, {"a": 1}]"#, true),
            (r#"[[1, 2], [1, 2]]"#, false),
        ] {
            let items: serde_json::Value = serde_json::from_str(items).unwrap();
            assert_eq!(are_unique(items.as_array().unwrap()), unique, "{items}");
        }
    }
}
