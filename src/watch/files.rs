//! Manifests as text: multi-document YAML or JSON into the objects that a cluster would deliver. Reading and watching
//! folders is folder.rs' part.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::info;

use super::{deployment, trim};
use crate::api::{GROUP, VERSION};
use crate::object::ObjectKey;
use crate::store::{Kind, Object};

/// A document, or an item of a List, that is no object for us although it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}", told(.object.as_ref(), .reason))]
pub struct Undecodable {
    /// Where the document begins, or where its text breaks off.
    pub line: usize,
    /// Which object it would be, as far as that can be told.
    pub object: Option<(Kind, ObjectKey)>,
    /// What is wrong, with the field's path; it quotes nothing of a Secret.
    pub reason: String,
}

impl Undecodable {
    /// The object and what is wrong with it, without the place.
    pub fn told(&self) -> String {
        told(self.object.as_ref(), &self.reason)
    }
}

fn told(object: Option<&(Kind, ObjectKey)>, reason: &str) -> String {
    let object = object.map(|(kind, key)| format!("{kind:?} {key}: "));
    format!("{}{reason}", object.unwrap_or_default())
}

/// All objects of the kinds that are served. A Deployment whose spec cannot be understood is an object, as it is in a
/// cluster: it says so in its spec. Documents of other kinds are passed over.
pub fn parse(text: &str) -> Vec<Result<Object, Undecodable>> {
    documents(text).flat_map(|document| document.parse()).collect()
}

/// The text of one document, not yet looked into.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// Its first line in the file, from 1.
    pub line: usize,
    /// With its `---`, if it has one.
    pub text: &'a str,
}

/// YAML 1.2 section 9.1.2: a line that begins with `---` starts a document wherever it stands, even within a scalar; so
/// documents can be told apart without being parsed.
pub fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = next_start(rest).unwrap_or(rest.len());
            let (document, after) = rest.split_at(end);
            let start = line;
            line += line_breaks(document);
            rest = after;
            if document.lines().any(has_content) {
                return Some(Document {
                    line: start,
                    text: document,
                });
            }
        }
        None
    })
}

/// YAML 1.2 section 5.4: CR LF, LF, and CR alone.
fn line_breaks(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_break = |(at, byte): (usize, &u8)| *byte == b'\n' || *byte == b'\r' && bytes.get(at + 1) != Some(&b'\n');
    bytes.iter().enumerate().filter(|byte| is_break(*byte)).count()
}

/// Where the next document starts, if not at the very beginning.
fn next_start(text: &str) -> Option<usize> {
    let starts = text.match_indices("---").map(|(at, _)| at);
    let mut starts = starts.filter(|at| text[..*at].ends_with(['\n', '\r']));
    starts.find(|at| is_start(&text[*at..]))
}

fn is_start(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

/// Comments, directives, markers and blank lines alone are no document.
fn has_content(line: &str) -> bool {
    let line = if is_start(line) { &line[3..] } else { line };
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "...")
}

impl Document<'_> {
    /// The document's objects, more than one for a List; an error for each that cannot be understood. Empty: it is of
    /// another kind.
    pub fn parse(&self) -> Vec<Result<Object, Undecodable>> {
        // As in YAML 1.2 and for kubectl: a namespace `n` is no boolean.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value: Value = match serde_saphyr::from_str_with_options(self.text, options) {
            Ok(value) => value,
            Err(error) => {
                let within = error.location().map_or(0, |at| at.line().saturating_sub(1));
                return vec![Err(Undecodable {
                    line: self.line + usize::try_from(within).unwrap_or(0),
                    object: None,
                    reason: error.to_string(),
                })];
            }
        };
        let mut objects = Vec::new();
        self.decode(value, &mut objects);
        objects
    }

    fn decode(&self, mut value: Value, objects: &mut Vec<Result<Object, Undecodable>>) {
        if value.is_null() {
            return;
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() {
            return objects.push(Err(
                self.undecodable("not a Kubernetes object: apiVersion and kind are missing")
            ));
        }
        if kind.ends_with("List")
            && let Some(items) = value.get_mut("items").and_then(Value::as_array_mut)
        {
            return std::mem::take(items)
                .into_iter()
                .for_each(|item| self.decode(item, objects));
        }
        let decoded = match (version.as_str(), kind.as_str()) {
            ("v1", "Service") => self
                .object::<core::Service>(Kind::Service, value)
                .map(|object| trim::service(object).map(Object::Service)),
            ("discovery.k8s.io/v1", "EndpointSlice") => self
                .object::<discovery::EndpointSlice>(Kind::EndpointSlice, value)
                .map(|object| trim::endpoint_slice(object).map(Object::EndpointSlice)),
            ("v1", "Secret") => self
                .object::<core::Secret>(Kind::Secret, value)
                .map(|object| trim::secret(object).map(Object::Secret)),
            ("v1", "ConfigMap") => self
                .object::<core::ConfigMap>(Kind::ConfigMap, value)
                .map(|object| trim::config_map(object).map(Object::ConfigMap)),
            (version, "Deployment") if version.split_once('/') == Some((GROUP, VERSION)) => self.deployment(value),
            (version, "SentinelPolicy") if version.split_once('/') == Some((GROUP, VERSION)) => self.policy(value),
            (version, _) if version.split('/').next() == Some(GROUP) => Err(self.undecodable(&format!(
                "{version} {kind} is unknown; supported are Deployment and SentinelPolicy of {GROUP}/{VERSION}"
            ))),
            _ => {
                info!(
                    kind,
                    version,
                    line = self.line,
                    "object ignored: its kind is not served"
                );
                Ok(None)
            }
        };
        objects.extend(decoded.transpose());
    }

    /// What is wrong with it is said in it.
    fn deployment(&self, value: Value) -> Result<Option<Object>, Undecodable> {
        let object = self.object::<DynamicObject>(Kind::Deployment, value)?;
        Ok(deployment::trim(object).map(Object::Deployment))
    }

    /// Its types refuse what they do not know.
    fn policy(&self, value: Value) -> Result<Option<Object>, Undecodable> {
        let object = self.object::<DynamicObject>(Kind::SentinelPolicy, value)?;
        Ok(trim::policy(object).map(Object::SentinelPolicy))
    }

    /// What an apiserver would have filled in is filled in: the namespace, and an identity that stays the same.
    fn object<K: DeserializeOwned>(&self, kind: Kind, mut value: Value) -> Result<K, Undecodable> {
        let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(self.undecodable("metadata is missing"));
        };
        let namespace = metadata
            .entry("namespace")
            .or_insert_with(|| "default".into())
            .as_str()
            .unwrap_or_default();
        let namespace = namespace.to_owned();
        let name = metadata
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !is_name(&name, 253) || !is_name(&namespace, 63) || namespace.contains('.') {
            return Err(self.undecodable(&format!(
                "metadata: {namespace:?}/{name:?} is not a valid namespace and name"
            )));
        }
        metadata
            .entry("uid")
            .or_insert_with(|| format!("file:{namespace}/{name}").into());
        serde_path_to_error::deserialize(value).map_err(|error| Undecodable {
            object: Some((kind, ObjectKey::new(&namespace, &name))),
            ..self.undecodable(&match kind {
                // The error could quote what must not be seen.
                Kind::Secret => format!("{}: cannot be decoded", error.path()),
                _ => format!("{}: {}", error.path(), error.inner()),
            })
        })
    }

    fn undecodable(&self, reason: &str) -> Undecodable {
        Undecodable {
            line: self.line,
            object: None,
            reason: reason.to_owned(),
        }
    }
}

/// An RFC 1123 subdomain, as far as it must not surprise whoever prints it or builds a hostname of it.
fn is_name(text: &str, max: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| inner(b) || b == b'-' || b == b'.')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

#[cfg(test)]
mod tests;
