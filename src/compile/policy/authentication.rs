//! The rules that tell who somebody is, from the object to the data plane.

use std::sync::Arc;

use super::Lookups;
use super::keys::{API_KEY, Entry};
use super::references::taken;
use super::rule::{At, Invalid, editable, names_one};
use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::api::policy as api;
use crate::compile::report::Quoted;
use crate::policy::api_key::{ApiKey, Key, KeySet};
use crate::policy::credentials::{Place, Source};
use crate::policy::{BasicAuth, Permissions};
use crate::store::ObjectKey;

// As the CRD's schema has them.
pub const MAX_SOURCES: usize = 8;
pub const MAX_SECRETS: usize = 64;
/// What browsers show where a rule names no realm.
const REALM: &str = "postern";

pub fn api_key(rule: &api::ApiKey, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<ApiKey, Invalid> {
    let keys = match (&rule.secret_selector, &rule.secret_refs[..]) {
        (Some(selector), []) => selected(selector, lookups, notes),
        (None, refs) if (1..=MAX_SECRETS).contains(&refs.len()) => named(refs, lookups, notes),
        (None, []) | (Some(_), _) => {
            return Err(Invalid::new("needs exactly one of secretSelector and secretRefs"));
        }
        (None, refs) => {
            let text = format!("holds {} items, 1 to {MAX_SECRETS} are allowed", refs.len());
            return Err(Invalid::new(text).within(".secretRefs"));
        }
    };
    Ok(ApiKey {
        keys: KeySet::new(keys),
        from: sources(&rule.from).at(".from")?,
        permissions: permissions(rule.permissions.as_deref())?,
        optional: rule.optional,
    })
}

/// One that is malformed costs that key alone.
fn selected(selector: &api::LabelSelector, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    let mut malformed = Vec::new();
    for (secret, entry) in lookups.keys.selected(&lookups.policy.namespace, &selector.match_labels) {
        match &entry.key {
            Ok(key) => keys.push(key.clone()),
            Err(why) => malformed.push(format!("Secret {secret} {why}")),
        }
    }
    const SHOWN: usize = 5;
    let more = malformed.len().saturating_sub(SHOWN);
    malformed.truncate(SHOWN);
    if more > 0 {
        malformed.push(format!("and {more} more"));
    }
    let mut note = |reason, text: String| notes.push(Invalid::of(reason, text).within(".secretSelector"));
    if !malformed.is_empty() {
        note(ConditionReason::InvalidReference, malformed.join("; "));
    } else if keys.is_empty() {
        let text = format!("selects no Secret that carries the label postern.dev/use: {API_KEY}");
        note(ConditionReason::SecretNotFound, text);
    }
    keys
}

fn named(refs: &[api::NameRef], lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    for (at, name) in refs.iter().enumerate() {
        let secret = ObjectKey::new(&lookups.policy.namespace, &name.name);
        let mut note = |reason, why: String| {
            let text = format!("Secret {secret} {why}");
            notes.push(Invalid::of(reason, text).within(format_args!(".secretRefs[{at}]")));
        };
        match lookups.keys.get(&secret) {
            Some(Entry { key: Ok(key), .. }) => keys.push(key.clone()),
            Some(Entry { key: Err(why), .. }) => note(ConditionReason::InvalidReference, why.to_string()),
            None if lookups.store.secret(&secret).is_some() => note(
                ConditionReason::SecretNotLabelled,
                format!("does not carry the label postern.dev/use: {API_KEY}"),
            ),
            None => note(
                ConditionReason::SecretNotFound,
                format!("does not exist, or does not carry the label postern.dev/use: {API_KEY}"),
            ),
        }
    }
    keys
}

pub fn basic_auth(
    rule: &api::BasicAuth,
    lookups: &Lookups<'_>,
    notes: &mut Vec<Invalid>,
) -> Result<BasicAuth, Invalid> {
    let secret = ObjectKey::new(&lookups.policy.namespace, &rule.secret_ref.name);
    let field = ".secretRef";
    let invalid = |(reason, text): (ConditionReason, String)| Invalid::of(reason, text).within(field);
    let (file, stale) = taken(CaKind::Secret, &secret, lookups.sources.users(&secret)).map_err(invalid)?;
    notes.extend(stale.map(invalid));
    notes.extend(file.note.map(|note| invalid((ConditionReason::InvalidReference, format!("Secret {secret}: {note}")))));
    let realm = rule.realm.as_deref().unwrap_or(REALM);
    Ok(BasicAuth::new(file.users, realm, rule.forward))
}

/// Where a credential may stand.
fn sources(list: &[api::CredentialSource]) -> Result<Arc<[Source]>, Invalid> {
    if !(1..=MAX_SOURCES).contains(&list.len()) {
        let text = format!("holds {} items, 1 to {MAX_SOURCES} are allowed", list.len());
        return Err(Invalid::new(text));
    }
    let sources = list.iter().enumerate();
    sources.map(|(at, one)| source(one).at(format_args!("[{at}]"))).collect()
}

fn source(source: &api::CredentialSource) -> Result<Source, Invalid> {
    let api::CredentialSource {
        bearer,
        header,
        query,
        cookie,
        subprotocol,
        forward,
    } = source;
    names_one([
        ("bearer", bearer.is_some()),
        ("header", header.is_some()),
        ("query", query.is_some()),
        ("cookie", cookie.is_some()),
        ("subprotocol", subprotocol.is_some()),
    ])?;
    let text = |text: &str, field: &str| match text {
        "" => Err(Invalid::new("is empty").within(field)),
        text => Ok(text.into()),
    };
    let place = if let Some(header) = header {
        Place::Header {
            name: editable(&header.name).at(".header.name")?,
            prefix: header.prefix.as_deref().map(Into::into),
        }
    } else if let Some(query) = query {
        Place::Query {
            name: text(&query.name, ".query.name")?,
        }
    } else if let Some(cookie) = cookie {
        Place::Cookie {
            name: text(&cookie.name, ".cookie.name")?,
        }
    } else if let Some(subprotocol) = subprotocol {
        Place::Subprotocol {
            prefix: text(&subprotocol.prefix, ".subprotocol.prefix")?,
        }
    } else {
        Place::Bearer
    };
    // What stands in a URL or a subprotocol ends up in logs, and in an app's answer.
    let usual = !matches!(place, Place::Query { .. } | Place::Subprotocol { .. });
    Ok(Source {
        forward: forward.unwrap_or(usual),
        place,
    })
}

fn permissions(text: Option<&str>) -> Result<Option<Permissions>, Invalid> {
    let parsed = text.map(|text| {
        Permissions::parse(text).map_err(|why| Invalid::new(format!("{}: {why}", Quoted(text))).within(".permissions"))
    });
    parsed.transpose()
}
