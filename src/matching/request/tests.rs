use super::*;
use crate::matching::{Regex, TextKind};

fn text(kind: TextKind, text: &str) -> Text {
    Text::new(kind, text, false).unwrap()
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    lines.collect()
}

#[test]
fn a_header_is_compared_as_its_lines_combine() {
    let is = |name, value| HeaderMatch {
        name: HeaderName::from_static(name),
        value: text(TextKind::Exact, value),
    };
    let sent = headers(&[
        ("x-a", "1"),
        ("x-a", "2"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-b", ""),
    ]);
    for (name, value) in [("x-a", "1, 2"), ("cookie", "a=b; c=d"), ("x-b", "")] {
        assert!(is(name, value).holds(&sent), "{name}: {value}");
    }
    for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-c", ""), ("x-c", "1")] {
        assert!(!is(name, value).holds(&sent), "{name}: {value}");
    }
}

#[test]
fn the_first_of_several_parameters_counts_decoded() {
    let is = |name: &str, value| QueryMatch {
        name: name.into(),
        value: text(TextKind::Exact, value),
    };
    let query = Some("&a=1&a=2&b%20c=d+e&f&g=%31");
    for (name, value) in [("a", "1"), ("b c", "d e"), ("f", ""), ("g", "1")] {
        assert!(is(name, value).holds(query), "{name}={value}");
    }
    for (name, value) in [("a", "2"), ("b%20c", "d e"), ("h", ""), ("", "")] {
        assert!(!is(name, value).holds(query), "{name}={value}");
    }
    assert!(!is("a", "1").holds(None));
}

#[test]
fn conditions_that_ask_nothing_are_none() {
    let path = PathMatch::Exact("/".into());
    assert_eq!(
        Matches::new(path.clone(), Conditions::default()),
        Matches::from(path.clone())
    );
    let method = Conditions {
        method: Some(Method::GET),
        ..Conditions::default()
    };
    assert!(!Matches::new(path, method).is_by_path());
}

#[test]
fn everything_that_is_compared_is_printed() {
    let matches = Matches::new(
        PathMatch::Regex(Box::new(Regex::new("/a.*", false).unwrap())),
        Conditions {
            method: Some(Method::PUT),
            headers: [HeaderMatch {
                name: HeaderName::from_static("x-a"),
                value: text(TextKind::Exact, "1"),
            }]
            .into(),
            query: [QueryMatch {
                name: "q".into(),
                value: text(TextKind::Prefix, "v"),
            }]
            .into(),
        },
    );
    assert_eq!(
        matches.to_string(),
        r"Regex \A(?:/a.*)\z, method PUT, header x-a: Exact 1, query q=Prefix v"
    );
    assert_eq!(
        serde_json::to_value(&matches).unwrap(),
        serde_json::json!({
            "path": {"Regex": r"\A(?:/a.*)\z"},
            "method": "PUT",
            "headers": [{"name": "x-a", "value": {"exact": "1"}}],
            "query": [{"name": "q", "value": {"prefix": "v"}}],
        })
    );
    assert_eq!(
        serde_json::to_string(&Matches::from(PathMatch::Exact("/a".into()))).unwrap(),
        r#"{"path":{"Exact":"/a"}}"#
    );
}
