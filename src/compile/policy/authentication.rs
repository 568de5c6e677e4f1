//! The rules that tell who somebody is, from the object to the data plane.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;

use super::invalid::{At, Invalid, bounded, names, names_one, noted};
use super::keys::Entry;
use super::lookups::Lookups;
use super::matching::{editable, header_name};
use super::references::{holder, taken};
use crate::api::policy;
use crate::compile::problem::Quoted;
use crate::compile::syntax::port_ref;
use crate::condition::ConditionReason;
use crate::object::{Kind, ObjectId, ObjectKey, Purpose};
use crate::policy::api_key::{Key, KeySet};
use crate::policy::credentials::{Place, Source};
use crate::policy::forward_auth::Target;
use crate::policy::jwt::{self, Algorithm, RequiredClaim};
use crate::policy::{ApiKey, BasicAuth, ForwardAuth, Jwt, Permissions};
use crate::runtime::{Lazy, Slot};

// As the CRD's schema has them.
/// Places where one rule looks for a credential.
pub const MAX_SOURCES: usize = 8;
/// Secrets that one apiKey rule names.
pub const MAX_SECRETS: usize = 64;
/// What browsers show where a rule names no realm.
const REALM: &str = "postern";

/// An error names the field. Secrets that cannot be used cost their own keys alone, and a note says so.
pub fn api_key(rule: &policy::ApiKey, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<ApiKey, Invalid> {
    let keys = match (&rule.secret_selector, &rule.secret_refs[..]) {
        (Some(selector), []) => selected(selector, lookups, notes),
        (None, refs) if (1..=MAX_SECRETS).contains(&refs.len()) => named(refs, lookups, notes),
        (None, []) | (Some(_), _) => {
            return Err(Invalid::new("needs exactly one of secretSelector and secretRefs"));
        }
        (None, refs) => {
            let text = format!("has {} items, but 1 to {MAX_SECRETS} are allowed", refs.len());
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
fn selected(selector: &policy::LabelSelector, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    let mut malformed = Vec::new();
    for (secret, entry) in lookups.keys.selected(&lookups.policy.namespace, &selector.match_labels) {
        match &entry.key {
            Ok(key) => keys.push(key.clone()),
            Err(why) => malformed.push(format!("Secret {secret}: {why}")),
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
        let text = format!("selects no Secret with the label postern.dev/use: {}", Purpose::ApiKey);
        note(ConditionReason::SecretNotFound, text);
    }
    keys
}

fn named(refs: &[policy::NameRef], lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    for (at, name) in refs.iter().enumerate() {
        let secret = ObjectKey::new(&lookups.policy.namespace, &name.name);
        let mut note = |reason, why: String| {
            let text = format!("Secret {secret} {why}");
            notes.push(Invalid::of(reason, text).within(format_args!(".secretRefs[{at}]")));
        };
        match lookups.keys.get(&secret) {
            Some(Entry { key: Ok(key), .. }) => keys.push(key.clone()),
            Some(Entry { key: Err(why), .. }) => {
                note(ConditionReason::InvalidReference, format!("is not usable: {why}"));
            }
            None if lookups.store.secret(&secret).is_some() => note(
                ConditionReason::SecretNotLabelled,
                format!("does not have the label postern.dev/use: {}", Purpose::ApiKey),
            ),
            None => note(
                ConditionReason::SecretNotFound,
                format!(
                    "does not exist, or does not have the label postern.dev/use: {}",
                    Purpose::ApiKey
                ),
            ),
        }
    }
    keys
}

/// An error if the htpasswd file cannot be used and no last good version stands in.
pub fn basic_auth(
    rule: &policy::BasicAuth,
    lookups: &Lookups<'_>,
    notes: &mut Vec<Invalid>,
) -> Result<BasicAuth, Invalid> {
    let secret = ObjectId::secret(&lookups.policy.namespace, &rule.secret_ref.name);
    let field = ".secretRef";
    let file = taken(field, &secret, lookups.sources.users(&secret), notes)?;
    notes.extend(file.note.map(|note| {
        let text = format!("{secret}: {note}");
        Invalid::of(ConditionReason::InvalidReference, text).within(field)
    }));
    let realm = rule.realm.as_deref().unwrap_or(REALM);
    Ok(BasicAuth::new(file.users, realm, rule.forward))
}

/// An error names the field. Keys at a URL are not fetched here.
pub fn jwt(rule: &policy::Jwt, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<Jwt, Invalid> {
    const MAX_SKEW: u64 = 10 * 60;
    let policy::Jwt {
        issuer,
        audiences,
        jwks,
        algorithms,
        clock_skew,
        subject_claim,
        required_claims,
        permissions,
        permissions_claim,
        from,
        optional,
    } = rule;
    bounded(audiences, 0).at(".audiences")?;
    bounded(algorithms, 1).at(".algorithms")?;
    bounded(required_claims, 0).at(".requiredClaims")?;
    for (field, text) in [
        (".issuer", issuer),
        (".subjectClaim", subject_claim),
        (".permissionsClaim", permissions_claim),
    ] {
        if text.is_empty() {
            return Err(Invalid::new("is empty").within(field));
        }
    }
    let clock_skew = clock_skew.0.as_secs();
    if clock_skew > MAX_SKEW {
        return Err(Invalid::new("must be at most 10m").within(".clockSkew"));
    }
    let required = required_claims.iter().map(|required| RequiredClaim {
        claim: required.claim.as_str().into(),
        value: required.value.as_deref().map(Into::into),
    });
    Ok(Jwt {
        issuer: issuer.as_str().into(),
        audiences: audiences.iter().map(|audience| audience.as_str().into()).collect(),
        keys: noted(".jwks", notes, |notes| keys(jwks, lookups, notes))?,
        algorithms: algorithms.iter().map(|algorithm| self::algorithm(*algorithm)).collect(),
        clock_skew: u32::try_from(clock_skew).unwrap_or_default(),
        subject_claim: subject_claim.as_str().into(),
        required_claims: required.collect(),
        permissions: self::permissions(permissions.as_deref())?,
        permissions_claim: permissions_claim.as_str().into(),
        from: sources(from).at(".from")?,
        optional: *optional,
        verified: Lazy::default(),
    })
}

fn keys(jwks: &policy::Jwks, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<jwt::Keys, Invalid> {
    names_one([
        ("url", jwks.url.is_some()),
        ("secretRef", jwks.secret_ref.is_some()),
        ("configMapRef", jwks.config_map_ref.is_some()),
    ])?;
    if let Some(url) = &jwks.url {
        return Ok(jwt::Keys::Url {
            url: self::url(url).at(".url")?,
            fetched: Slot::default(),
        });
    }
    // One of the two is given.
    let holder = holder(&lookups.policy.namespace, jwks).ok_or_else(|| Invalid::new("is empty"))?;
    let field = match holder.kind {
        Kind::ConfigMap => ".configMapRef",
        _ => ".secretRef",
    };
    let set = taken(field, &holder, lookups.sources.jwks(&holder), notes)?;
    Ok(jwt::Keys::Set(set))
}

fn algorithm(algorithm: policy::Algorithm) -> Algorithm {
    use policy::Algorithm as A;
    match algorithm {
        A::RS256 => Algorithm::RS256,
        A::RS384 => Algorithm::RS384,
        A::RS512 => Algorithm::RS512,
        A::PS256 => Algorithm::PS256,
        A::PS384 => Algorithm::PS384,
        A::PS512 => Algorithm::PS512,
        A::ES256 => Algorithm::ES256,
        A::ES384 => Algorithm::ES384,
        A::EdDSA => Algorithm::EdDSA,
    }
}

/// An error names the field.
pub fn forward_auth(rule: &policy::ForwardAuth, lookups: &Lookups<'_>) -> Result<ForwardAuth, Invalid> {
    const MAX_TIMEOUT: Duration = Duration::from_secs(5);
    let target = match (&rule.url, &rule.service) {
        (Some(url), None) => Target::Url(self::url(url).at(".url")?),
        (None, Some(service)) => self::service(service, lookups).at(".service")?,
        _ => return Err(Invalid::new("needs exactly one of url and service")),
    };
    let timeout = rule.timeout.0;
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Err(Invalid::new("must be more than 0s and at most 5s").within(".timeout"));
    }
    let subject_header = rule.subject_header.as_deref().map(header_name);
    Ok(ForwardAuth {
        target,
        timeout,
        request_headers: names(&rule.request_headers, header_name).at(".requestHeaders")?,
        response_headers: names(&rule.response_headers, editable).at(".responseHeaders")?,
        subject_header: subject_header.transpose().at(".subjectHeader")?,
        fail_open: rule.fail_open,
    })
}

fn service(service: &policy::ForwardService, lookups: &Lookups<'_>) -> Result<Target, Invalid> {
    let key = ObjectKey::new(&lookups.policy.namespace, &service.name);
    let port = port_ref(&service.port).map_err(Invalid::new).at(".port")?;
    let path = PathAndQuery::try_from(&*service.path).ok();
    let path = path.filter(|path| path.as_str().starts_with('/'));
    let path = path.ok_or_else(|| Invalid::new("is not a path such as /auth").within(".path"))?;
    match lookups.services.find(&key, &port) {
        Ok(found) => Ok(Target::Service {
            upstream: found.upstream.clone(),
            path,
        }),
        Err(why) => {
            let reason = match why.reason() {
                ConditionReason::ServiceNotFound => ConditionReason::ServiceNotFound,
                _ => ConditionReason::InvalidReference,
            };
            Err(Invalid::of(reason, format!("Service {key} {why}")))
        }
    }
}

fn url(text: &str) -> Result<Uri, Invalid> {
    let url = text.parse::<Uri>().ok().filter(|url| {
        let plain = url
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        matches!(url.scheme_str(), Some("http" | "https")) && plain && url.host().is_some_and(|host| !host.is_empty())
    });
    // A password that stands in it is not told.
    url.ok_or_else(|| Invalid::new("must be an http:// or https:// URL without user and password"))
}

/// Where a credential may stand.
fn sources(list: &[policy::CredentialSource]) -> Result<Arc<[Source]>, Invalid> {
    if !(1..=MAX_SOURCES).contains(&list.len()) {
        let text = format!("has {} items, but 1 to {MAX_SOURCES} are allowed", list.len());
        return Err(Invalid::new(text));
    }
    let sources = list.iter().enumerate();
    sources
        .map(|(at, one)| source(one).at(format_args!("[{at}]")))
        .collect()
}

fn source(source: &policy::CredentialSource) -> Result<Source, Invalid> {
    let policy::CredentialSource {
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
