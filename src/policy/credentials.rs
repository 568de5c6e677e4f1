//! Where a credential stands in a request, and how it is taken out of what the app gets. What it is worth is for the rule to say.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Serialize;

use super::edits::remove_folded;
use super::principal::Principal;
use super::refusal::Refusal;
use super::request::Request;
use crate::fields::list::elements;
use crate::fields::reserved::{folds_to, is_reserved};
use crate::reason::Reason;
use crate::text::printed;

/// A place in requests, and whether what stands there stays in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Where it is looked for.
    pub place: Place,
    /// Whether the app is to see it.
    pub forward: bool,
}

/// Where a credential may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// RFC 6750 section 2.1.
    Bearer,
    /// The value of a field that stands there once.
    Header {
        #[serde(serialize_with = "printed::text")]
        name: HeaderName,
        /// What stands in front of it, in any case. A value without is no credential.
        prefix: Option<Box<str>>,
    },
    /// A parameter of the query, by its decoded name.
    Query { name: Box<str> },
    /// A cookie, by its name.
    Cookie { name: Box<str> },
    /// An entry of Sec-WebSocket-Protocol, where a browser's script can put one.
    Subprotocol { prefix: Box<str> },
}

/// A credential that stood in one of its places.
pub struct Found<'a> {
    /// The credential without scheme or prefix.
    pub value: Cow<'a, str>,
    /// What the app does not see of it.
    pub credential: Credential,
}

/// What must not reach the app: whatever stands in any place of its rule that is not forwarded, used or not.
#[derive(Clone, Debug)]
pub struct Credential(Arc<[Source]>);

/// Who a rule has found the request to be from.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Whom the credential is of.
    pub principal: Arc<Principal>,
    /// What the app does not see.
    pub credential: Credential,
}

/// What stands there is no single, well-formed credential: several that differ, one past its bound, or no text.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The longest credential, in bytes.
pub(super) const MAX_LENGTH: usize = 8 * 1024;

/// The first source that holds something. One that holds differing values is an error, never a choice.
pub fn find<'a>(sources: &Arc<[Source]>, request: &Request<'a>) -> Result<Option<Found<'a>>, Ambiguous> {
    for source in sources.iter() {
        if let Some(value) = source.place.value(request)? {
            let credential = Credential(sources.clone());
            return Ok(Some(Found { value, credential }));
        }
    }
    Ok(None)
}

/// The one Authorization value, without its scheme, if it has this scheme (RFC 9110 section 11.4).
pub(super) fn authorization<'a>(request: &Request<'a>, scheme: &str) -> Result<Option<&'a str>, Ambiguous> {
    let lines = request.header(&AUTHORIZATION).map(|line| line.to_str().map_err(drop));
    let Some(line) = only(lines)? else {
        return Ok(None);
    };
    let line = line.map_err(|()| Ambiguous)?;
    Ok(without_prefix(line, scheme)
        .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        .map(str::trim))
}

impl Place {
    fn value<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, Ambiguous> {
        let value = match self {
            Self::Bearer => match authorization(request, "bearer")? {
                // One token, not a list.
                Some(token) if token.contains([' ', '\t']) => return Err(Ambiguous),
                token => token.map(Cow::Borrowed),
            },
            Self::Header { name, prefix } => {
                let Some(line) = only(lines(request, name))? else {
                    return Ok(None);
                };
                let line = line.to_str().map_err(|_| Ambiguous)?;
                let prefix = prefix.as_deref().unwrap_or_default();
                without_prefix(line, prefix).map(|value| Cow::Borrowed(value.trim()))
            }
            Self::Query { name } => {
                let pairs = request.query().filter(|(found, _)| *found == **name);
                only(pairs.map(|(_, value)| value))?
            }
            Self::Cookie { name } => {
                let cookies = request.cookies().filter(|(found, _)| **found == **name);
                only(cookies.map(|(_, value)| value))?
            }
            Self::Subprotocol { prefix } => {
                let entries = elements(request.headers, SEC_WEBSOCKET_PROTOCOL);
                let entry = only(entries.filter_map(|entry| entry.strip_prefix(prefix.as_bytes())))?;
                let text = entry.map(|entry| str::from_utf8(entry).map_err(|_| Ambiguous));
                text.transpose()?.map(Cow::Borrowed)
            }
        };
        match value {
            Some(value) if value.is_empty() => Ok(None),
            Some(value) if value.len() > MAX_LENGTH || !value.bytes().all(is_printable) => Err(Ambiguous),
            value => Ok(value),
        }
    }
}

impl Credential {
    /// Whatever is in Authorization.
    pub(super) fn authorization(forward: bool) -> Self {
        let place = Place::Bearer;
        Self(if forward {
            Arc::default()
        } else {
            Arc::new([Source { place, forward }])
        })
    }

    fn hidden(&self) -> impl Iterator<Item = &Place> {
        let hidden = self.0.iter().filter(|source| !source.forward);
        hidden.map(|source| &source.place)
    }

    /// The target toward the app; None: as it is. The parameters that stay do so byte for byte.
    pub fn strip_target(&self, uri: &Uri) -> Option<Uri> {
        let query = uri.query()?;
        let mut stripped = Cow::Borrowed(query);
        for place in self.hidden() {
            if let Place::Query { name } = place
                && let Some(rest) = without_parameter(&stripped, name)
            {
                stripped = Cow::Owned(rest);
            }
        }
        let target = match stripped {
            Cow::Borrowed(_) => return None,
            Cow::Owned(query) if query.is_empty() => uri.path().to_owned(),
            Cow::Owned(query) => format!("{}?{query}", uri.path()),
        };
        let mut parts = uri.clone().into_parts();
        // A target less some bytes of its query is one.
        parts.path_and_query = Some(PathAndQuery::try_from(target).unwrap_or(PathAndQuery::from_static("/")));
        Some(Uri::from_parts(parts).unwrap_or_default())
    }

    /// Applied to the headers toward the app. What is returned was the last subprotocol that the client offered: the app cannot
    /// choose it now, and a browser takes no handshake that chooses none, so the 101 is to carry it: see `echo`.
    pub fn strip_headers(&self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        let mut last = None;
        for place in self.hidden() {
            match place {
                Place::Bearer => remove_folded(headers, &AUTHORIZATION),
                Place::Header { name, .. } => remove_folded(headers, name),
                Place::Cookie { name } => strip_cookie(headers, name),
                Place::Subprotocol { prefix } => last = strip_subprotocol(headers, prefix).or(last),
                Place::Query { .. } => {}
            }
        }
        last
    }
}

/// Completes a 101 by the only subprotocol that was offered, unless the app has chosen by itself (RFC 6455 section 4.2.2).
pub fn echo(answer: &mut HeaderMap, entry: &HeaderValue) {
    if !answer.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, entry.clone());
    }
}

/// With what a client may do about a 401 (RFC 6750 section 3).
pub(super) fn bearer_refusal(reason: Reason) -> Refusal {
    let challenge = match reason {
        Reason::MissingCredentials => r#"Bearer realm="postern""#,
        _ => r#"Bearer realm="postern", error="invalid_token""#,
    };
    let mut refusal = Refusal::from(reason);
    refusal
        .headers
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    refusal
}

/// The value that all of them are.
fn only<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Result<Option<T>, Ambiguous> {
    let first = values.next();
    match &first {
        Some(first) if values.any(|other| other != *first) => Err(Ambiguous),
        _ => Ok(first),
    }
}

/// In every spelling that an app might read as the name: one that says another is a second value.
fn lines<'a>(request: &Request<'a>, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
    let is_alias = move |found: &HeaderName| {
        found != name && !is_reserved(found.as_str()) && folds_to(found.as_str().as_bytes(), name.as_str().as_bytes())
    };
    let aliases = request.headers.iter().filter(move |(found, _)| is_alias(found));
    request.header(name).chain(aliases.map(|(_, value)| value))
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (found, rest) = text.split_at_checked(prefix.len())?;
    found.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether the byte is one of ASCII's printable characters, the space among them.
pub(super) fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// None: it is not there. `;` separates as well, to some apps: it is looked for between those as `Request::query` does.
fn without_parameter(query: &str, name: &str) -> Option<String> {
    let is_named = |pair: &str| {
        form_urlencoded::parse(pair.as_bytes())
            .next()
            .is_some_and(|(found, _)| found == name)
    };
    if !query.split(['&', ';']).any(is_named) {
        return None;
    }
    let kept = query.split('&').filter(|pair| !is_named(pair)).filter_map(|pair| {
        if !pair.split(';').any(is_named) {
            return Some(Cow::Borrowed(pair));
        }
        let parts: Vec<_> = pair.split(';').filter(|part| !is_named(part)).collect();
        (!parts.is_empty()).then(|| Cow::Owned(parts.join(";")))
    });
    Some(kept.collect::<Vec<_>>().join("&"))
}

/// Line by line, lest one that holds other bytes than text be spared.
fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let is_named = |pair: &[u8]| {
        let end = pair.iter().position(|byte| *byte == b'=');
        end.is_some_and(|end| pair[..end].trim_ascii() == name.as_bytes())
    };
    rewrite(headers, &COOKIE, |line| {
        let pairs = || line.split(|byte| *byte == b';');
        pairs().any(is_named).then(|| {
            let kept: Vec<_> = pairs().filter(|pair| !is_named(pair)).collect();
            match kept.iter().all(|pair| pair.trim_ascii().is_empty()) {
                true => Vec::new(),
                false => kept.join(&b';').trim_ascii().to_owned(),
            }
        })
    });
}

/// Returns the entry, if it was the only one.
fn strip_subprotocol(headers: &mut HeaderMap, prefix: &str) -> Option<HeaderValue> {
    let mut taken = None;
    rewrite(headers, &SEC_WEBSOCKET_PROTOCOL, |line| {
        let entries = || line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let is_token = |entry: &&[u8]| entry.starts_with(prefix.as_bytes());
        taken = entries().find(is_token).map(<[u8]>::to_owned).or(taken.take());
        entries().any(|entry| is_token(&entry)).then(|| {
            let kept: Vec<_> = entries()
                .filter(|entry| !is_token(entry) && !entry.is_empty())
                .collect();
            kept.join(&b", "[..])
        })
    });
    let offered = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    taken
        .filter(|_| !offered)
        .and_then(|entry| HeaderValue::from_bytes(&entry).ok())
}

/// Each line as `change` has it: None as it was, empty gone.
fn rewrite(headers: &mut HeaderMap, name: &HeaderName, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
    let changed: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|line| change(line.as_bytes()))
        .collect();
    if changed.iter().all(Option::is_none) {
        return;
    }
    let lines: Vec<_> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for (line, changed) in lines.into_iter().zip(changed) {
        match changed {
            None => {
                headers.append(name, line);
            }
            Some(changed) if changed.is_empty() => {}
            Some(changed) => {
                // Bytes out of a header are fit for one.
                if let Ok(line) = HeaderValue::from_bytes(&changed) {
                    headers.append(name, line);
                }
            }
        }
    }
}

// By hand: what was found is not printed.
impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found")
    }
}

#[cfg(test)]
pub(in crate::policy) mod tests;
