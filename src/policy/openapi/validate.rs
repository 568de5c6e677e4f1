//! One request against its operation.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::body::MAX_PAIRS;
use super::document::{Document, Methods, Operation};
use super::parameter::{Content, Parameter, mismatch};
use super::path::Found;
use super::validator::Mismatch;
use super::violation::{Place, Violation};
use super::{Call, Parts, decode};
use crate::fields::reserved::folds_to;

impl Document {
    /// Whether a body means anything to the operation.
    pub fn needs_body(&self, method: &Method, path: &str) -> bool {
        let found = self.paths().find(path);
        let operation = found.and_then(|found| operation(found.value, method));
        operation.is_some_and(|operation| operation.body.is_some())
    }

    pub fn validate(&self, parts: Parts, call: &Call<'_>) -> Result<(), Violation> {
        let request = |message: &str| Violation::new(Place::Request, message);
        let Found { value, parameters } = self
            .paths()
            .find(call.path)
            .ok_or_else(|| request("has a path that the API description does not contain"))?;
        let operation = operation(value, call.method)
            .ok_or_else(|| request("has a method that the API description does not contain for its path"))?;
        if parts.path {
            path(&operation.path, &parameters)?;
        }
        if parts.query {
            query(&operation.query, call.query.unwrap_or_default())?;
        }
        if parts.headers {
            headers(&operation.headers, call.headers)?;
        }
        if parts.cookies {
            cookies(&operation.cookies, call.headers)?;
        }
        match &operation.body {
            Some(body) if parts.body => body.check(call.headers, call.body.unwrap_or_default()),
            _ => Ok(()),
        }
    }
}

fn operation<'d>(methods: &'d Methods, method: &Method) -> Option<&'d Operation> {
    let find = |method: &Method| methods.iter().find(|(other, _)| other == method);
    // RFC 9110 9.3.2: HEAD is GET without the content of the answer.
    let found = find(method).or_else(|| {
        if *method == Method::HEAD {
            find(&Method::GET)
        } else {
            None
        }
    });
    found.map(|(_, operation)| operation.as_ref())
}

fn path(expected: &[Parameter], given: &[(&str, Cow<'_, str>)]) -> Result<(), Violation> {
    for parameter in expected {
        let Some((_, value)) = given.iter().find(|(name, _)| *name == parameter.name.as_ref()) else {
            continue;
        };
        // It is decoded already.
        single(parameter, value, false)
            .map_err(|mismatch| Violation::of(Place::Path(parameter.name.clone()), mismatch))?;
    }
    Ok(())
}

fn query(expected: &[Parameter], query: &str) -> Result<(), Violation> {
    if expected.is_empty() {
        return Ok(());
    }
    let pairs: Vec<_> = decode::pairs(query).take(MAX_PAIRS + 1).collect();
    if pairs.len() > MAX_PAIRS {
        return Err(Violation::new(Place::Request, "has too many query parameters"));
    }
    for parameter in expected {
        let checked = from_pairs(parameter, &pairs, query.len());
        checked.map_err(|mismatch| Violation::of(Place::Query(parameter.name.clone()), mismatch))?;
    }
    Ok(())
}

fn from_pairs(parameter: &Parameter, pairs: &[(Cow<'_, str>, &str)], size: usize) -> Result<(), Mismatch> {
    let mut same = pairs.iter().filter(|(name, _)| *name == parameter.name.as_ref());
    match &parameter.content {
        Content::Text(schema) => {
            if parameter.allow_empty && same.next().is_some_and(|(_, value)| value.is_empty()) && same.next().is_none()
            {
                return Ok(());
            }
            match parameter.notation.pairs(&parameter.name, &schema.shape, pairs)? {
                Some(meanings) => schema.check(&meanings, size),
                None => absent(parameter),
            }
        }
        content => {
            let Some((_, value)) = same.next() else {
                return absent(parameter);
            };
            if same.next().is_some() {
                return Err(mismatch("is given more than once"));
            }
            match content {
                Content::Json(schema) => schema.check_json(super::parameter::text(value)?.as_bytes()),
                _ => Ok(()),
            }
        }
    }
}

fn headers(expected: &[(HeaderName, Parameter)], given: &HeaderMap) -> Result<(), Violation> {
    for (name, parameter) in expected {
        let checked = header(name, parameter, given);
        checked.map_err(|mismatch| Violation::of(Place::Header(parameter.name.clone()), mismatch))?;
    }
    Ok(())
}

fn header(name: &HeaderName, parameter: &Parameter, given: &HeaderMap) -> Result<(), Mismatch> {
    // In every spelling that an app could read as this name.
    let folds = |other: &HeaderName| other != name && folds_to(other.as_str().as_bytes(), name.as_str().as_bytes());
    let aliases = given.iter().filter(|(other, _)| folds(other)).map(|(_, line)| line);
    let mut lines = given.get_all(name).iter().chain(aliases);
    let Some(first) = lines.next() else {
        return absent(parameter);
    };
    let mut value = Cow::Borrowed(line(first)?);
    for more in lines {
        // RFC 9110 5.3: lines are one list. Of what is none, there may be one.
        let Content::Text(schema) = &parameter.content else {
            return Err(mismatch("is given more than once"));
        };
        if !schema.shape.may_be_array() && !schema.shape.is_object() {
            return Err(mismatch("is given more than once"));
        }
        value = Cow::Owned(format!("{value},{}", line(more)?));
    }
    // Headers are not percent-encoded by most who send them, and by the specification only where it must be.
    single(parameter, &value, false)
}

fn line(value: &HeaderValue) -> Result<&str, Mismatch> {
    std::str::from_utf8(value.as_bytes())
        .map(str::trim)
        .map_err(|_| mismatch("is not UTF-8"))
}

fn cookies(expected: &[Parameter], given: &HeaderMap) -> Result<(), Violation> {
    if expected.is_empty() {
        return Ok(());
    }
    // RFC 9113 8.2.3: there may be several lines.
    let lines = given
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
    let pairs: Vec<_> = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .take(MAX_PAIRS)
        .collect();
    for parameter in expected {
        let mut values = pairs
            .iter()
            .filter(|(name, _)| name.trim_end() == parameter.name.as_ref());
        let checked = match (values.next(), values.next()) {
            (None, _) => absent(parameter),
            (Some((_, value)), None) => single(parameter, value.trim_start(), true),
            (Some(_), Some(_)) => Err(mismatch("is given more than once")),
        };
        checked.map_err(|mismatch| Violation::of(Place::Cookie(parameter.name.clone()), mismatch))?;
    }
    Ok(())
}

fn single(parameter: &Parameter, value: &str, encoded: bool) -> Result<(), Mismatch> {
    match &parameter.content {
        Content::Text(schema) => {
            let meanings = parameter.notation.single(&schema.shape, value, encoded)?;
            schema.check(&meanings, value.len())
        }
        Content::Json(schema) if encoded => {
            let decoded = decode::component(value).ok_or_else(|| mismatch("is not properly encoded"))?;
            schema.check_json(decoded.as_bytes())
        }
        Content::Json(schema) => schema.check_json(value.as_bytes()),
        Content::Opaque => Ok(()),
    }
}

fn absent(parameter: &Parameter) -> Result<(), Mismatch> {
    if parameter.required {
        return Err(mismatch("is missing"));
    }
    Ok(())
}
