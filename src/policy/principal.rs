//! Who was authenticated, as the app is told in X-Postern-Principal. Made once, when a key is compiled, a handshake done or a
//! token verified; what a rule asks of it later is a look into it.

use std::borrow::Cow;
use std::{fmt, io};

use http::HeaderValue;
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};

/// Immutable, and shared by all requests of whom it names.
pub struct Principal {
    kind: Kind,
    subject: Box<str>,
    /// Whole, whatever the header had room for.
    value: Value,
    header: HeaderValue,
}

/// What has authenticated whom it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A key of an `apiKey` rule.
    ApiKey,
    /// A token of a `jwt` rule.
    Jwt,
    /// A user of a `basicAuth` rule.
    Basic,
    /// The server of a `forwardAuth` rule.
    Forwarded,
    /// A client certificate that Postern verified.
    ClientCertificate,
}

/// What there is to say of one.
pub struct Parts<'a> {
    /// Names the field of `source`.
    pub kind: Kind,
    /// Unique within the kind, by the word of who authenticated.
    pub subject: &'a str,
    /// What apps are told of the person or program behind the subject; None: nothing.
    pub identity: Option<Value>,
    /// What stands in `source`, under the kind's own name: a key's Secret, a token's claims.
    pub source: Value,
}

/// What a verified client certificate says of its holder.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// The distinguished name (RFC 4514). Empty where the names stand in the alternative ones alone.
    pub subject: String,
    /// Alternative names that are URIs, in the certificate's order.
    pub uris: Vec<String>,
    /// Alternative names that are DNS names, in the certificate's order.
    pub dns_names: Vec<String>,
    /// SHA-256 of the certificate, in hex.
    pub hash: String,
}

/// A subject is never cut: a part of it would be someone else.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject is empty or too long")]
pub struct InvalidSubject;

const VERSION: &str = "v1";
/// The longest header, in bytes. An app's own bound on all headers together is often 8 KiB.
const MAX_LENGTH: usize = 4096;
/// The longest subject in JSON, in bytes.
const MAX_SUBJECT: usize = 2048;

#[derive(Serialize)]
struct Written<'a> {
    version: &'a str,
    subject: &'a str,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a Value>,
    source: &'a Value,
}

impl Principal {
    /// One that has no room in the header for its source, or its identity, is told of without.
    pub fn new(parts: Parts<'_>) -> Result<Self, InvalidSubject> {
        let Parts {
            kind,
            subject,
            identity,
            source,
        } = parts;
        if subject.is_empty() || ascii_json(subject).len() > MAX_SUBJECT {
            return Err(InvalidSubject);
        }
        let source = json!({ kind.source(): source });
        let cut = json!({ kind.source(): {}, "truncated": true });
        let written = |identity, source| {
            ascii_json(&Written {
                version: VERSION,
                subject,
                kind,
                identity,
                source,
            })
        };
        let fits = |text: &String| text.len() <= MAX_LENGTH;
        let text = Some(written(identity.as_ref(), &source))
            .filter(fits)
            .or_else(|| Some(written(identity.as_ref(), &cut)).filter(fits))
            .unwrap_or_else(|| written(None, &cut));
        let header = HeaderValue::try_from(text).map_err(|_| InvalidSubject)?;
        let mut value = Map::from_iter([
            ("version".to_owned(), VERSION.into()),
            ("subject".to_owned(), subject.into()),
            ("type".to_owned(), json!(kind)),
            ("source".to_owned(), source),
        ]);
        value.extend(identity.map(|identity| ("identity".to_owned(), identity)));
        Ok(Self {
            kind,
            subject: subject.into(),
            value: Value::Object(value),
            header,
        })
    }

    /// Its subject is the distinguished name, else the first alternative name, else the certificate's hash.
    pub fn of_certificate(holder: Holder) -> Result<Self, InvalidSubject> {
        let Holder {
            subject,
            uris,
            dns_names,
            hash,
        } = holder;
        let source = json!({"subject": subject, "uris": uris, "dnsNames": dns_names, "sha256": hash});
        let names = [subject].into_iter().chain(uris).chain(dns_names);
        let name = names.into_iter().find(|name| !name.is_empty());
        let made = |subject: &str, source| {
            Self::new(Parts {
                kind: Kind::ClientCertificate,
                subject,
                identity: None,
                source,
            })
        };
        match name.map(|name| made(&name, source.clone())) {
            Some(Ok(principal)) => Ok(principal),
            _ => made(&format!("sha256:{hash}"), source),
        }
    }

    /// What has authenticated it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As apps are told it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// X-Postern-Principal.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// A string, number or boolean by its path: `source.key.meta.plan`. A name with dots in it (as claims have) is found by
    /// its whole self.
    pub fn field(&self, dotted: &str) -> Option<Cow<'_, str>> {
        match find(&self.value, dotted)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(true) => Some(Cow::Borrowed("true")),
            Value::Bool(false) => Some(Cow::Borrowed("false")),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl Kind {
    /// Under which name `source` tells of this kind.
    fn source(self) -> &'static str {
        match self {
            Self::ApiKey => "key",
            Self::Jwt => "jwt",
            Self::Basic => "basic",
            Self::Forwarded => "forwarded",
            Self::ClientCertificate => "certificate",
        }
    }
}

fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let fields = value.as_object()?;
    if let Some(found) = fields.get(path) {
        return Some(found);
    }
    // The longest name first.
    let dots = path.rmatch_indices('.').map(|(dot, _)| path.split_at(dot));
    dots.filter_map(|(name, rest)| Some((fields.get(name)?, &rest[1..])))
        .find_map(|(value, rest)| find(value, rest))
}

/// Compact, and fit for a header: whatever is not printable ASCII is escaped (RFC 8259 section 7).
fn ascii_json(value: &(impl Serialize + ?Sized)) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    // Nothing here can fail: maps have strings for keys, and memory takes what is written to it.
    if value.serialize(&mut serializer).is_err() {
        text.clear();
    }
    String::from_utf8(text).unwrap_or_default()
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (at, char) in fragment.char_indices().filter(|(_, char)| !matches!(char, ' '..='~')) {
            to.write_all(&fragment.as_bytes()[written..at])?;
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            written = at + char.len_utf8();
        }
        to.write_all(&fragment.as_bytes()[written..])
    }
}

/// By what an app is told, all of it.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

// By hand: who it is and what its token claims is no log's to say.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({:?})", self.kind)
    }
}

#[cfg(test)]
mod tests;
