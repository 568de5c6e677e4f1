//! What a source reads out of an object.

use std::sync::Arc;

use crate::compile::intent::{Intent, Right};
use crate::config::Routing;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectKey};
use crate::store::{Labels, Store};

/// One kind that routes come from.
pub struct Source {
    pub kind: Kind,
    /// None: there is no such object.
    pub read: fn(&Store, &ObjectKey, &Routing) -> Option<Reading>,
}

/// What an object says.
pub struct Reading {
    pub candidate: Candidate,
    pub asked: Asked,
}

/// The object as policies see it that apply to it. Objects of every class count, since a policy's status tells of them all.
#[derive(PartialEq)]
pub struct Candidate {
    /// creationTimestamp in Unix seconds.
    pub created: i64,
    pub labels: Labels,
    /// The policies that it names itself.
    pub policies: Box<[ObjectKey]>,
    /// None: it cannot be decoded.
    pub class: Option<Box<str>>,
}

/// What an object asks for of this installation.
pub enum Asked {
    /// It is of another class.
    Nothing,
    Intent(Box<Intent>),
    /// Its class is not known: it may be ours, and saying nothing about a broken object helps nobody.
    Undecodable(Undecodable),
}

/// An object of which nothing is known but that it exists.
pub struct Undecodable {
    pub uid: Arc<str>,
    pub generation: i64,
    pub error: Arc<str>,
}

/// By what right an object of this namespace may have the hostname that it lists.
pub fn right(name: &HostName, namespace: &str, routing: &Routing) -> Right {
    let Some(grants) = &routing.hostname_grants else {
        return Right::Age;
    };
    let patterns = grants.get(namespace).map_or(&[][..], Vec::as_slice);
    if patterns.iter().any(|pattern| grants_name(pattern, name)) {
        Right::Granted
    } else {
        Right::None
    }
}

/// By what right an object of this namespace may have the hostname that is assigned to it. A name that is granted to another
/// namespace by itself is not assigned; one that only a pattern of another's covers is, until that one lists it.
pub fn right_to_assigned(name: &HostName, namespace: &str, routing: &Routing) -> Right {
    let grants = routing.hostname_grants.iter().flatten();
    match right(name, namespace, routing) {
        Right::Granted => Right::Granted,
        _ if grants.flat_map(|(_, patterns)| patterns).any(|pattern| pattern == name) => Right::None,
        _ => Right::Assigned,
    }
}

/// A pattern grants the names that it would serve, and itself.
fn grants_name(pattern: &HostName, name: &HostName) -> bool {
    pattern == name || matches!(name, HostName::Exact(name) if pattern.covers(name))
}
