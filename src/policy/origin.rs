//! `origin`: which pages' scripts may come here. A browser sends cookies along with a WebSocket handshake of any page, so that
//! without this rule a foreign page acts as its visitor (cross-site WebSocket hijacking; RFC 6455 section 10.2).

use http::{HeaderValue, Uri, header};
use serde::{Serialize, Serializer};

use super::refusal::Refusal;
use super::request::Request;
use crate::reason::Reason;

/// A rule on the Origin of requests.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The origins whose pages may come.
    pub allowed: Origins,
    /// Whether a request without an Origin passes: it is no browser's cross-site one.
    pub allow_missing: bool,
}

/// Patterns of origins; empty: none.
#[derive(Debug, PartialEq, Serialize)]
pub struct Origins(Box<[Pattern]>);

#[derive(Debug, PartialEq)]
enum Pattern {
    Any,
    /// The host that the request is for, whatever it is.
    SameHost,
    /// Lower case, without a default port.
    Exact(Box<str>),
    /// `scheme` and what follows the one label, from its dot.
    Wildcard {
        scheme: Box<str>,
        rest: Box<str>,
    },
}

impl Origin {
    /// Refuses an origin that is not allowed, is repeated, or is missing where it must not be.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let mut lines = request.headers.get_all(header::ORIGIN).iter();
        let passes = match (lines.next(), lines.next()) {
            (None, _) => self.allow_missing,
            (Some(origin), None) => self.allowed.hold(origin, request),
            (Some(_), Some(_)) => false,
        };
        if passes {
            Ok(())
        } else {
            Err(Reason::OriginDenied.into())
        }
    }
}

impl Origins {
    /// `texts` are like `https://app.example.com`, `https://*.example.com` (one label), `same-host`, `null` or `*`.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let patterns = texts
            .into_iter()
            .map(|text| pattern(text).ok_or_else(|| format!("{text:?} is not a valid origin")));
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them is this origin.
    pub fn hold(&self, origin: &HeaderValue, request: &Request<'_>) -> bool {
        let Some(origin) = origin.to_str().ok().and_then(normalized) else {
            return false;
        };
        self.0.iter().any(|pattern| pattern.is(&origin, request))
    }

    /// Whether every origin is allowed.
    pub fn hold_any(&self) -> bool {
        self.0.contains(&Pattern::Any)
    }
}

impl Pattern {
    fn is(&self, origin: &str, request: &Request<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *origin,
            Self::Wildcard { scheme, rest } => {
                let host = origin.strip_prefix(&**scheme).and_then(|host| host.strip_prefix("://"));
                host.and_then(|host| host.strip_suffix(&**rest))
                    .is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            // A page in plaintext is anybody's who is on its way.
            Self::SameHost => {
                let authority = request.authority.to_str().unwrap_or_default();
                let same =
                    |scheme: &str| normalized(&format!("{scheme}://{authority}")).is_some_and(|own| own == origin);
                same("https") || !request.https && same("http")
            }
        }
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    match text {
        "*" => Some(Pattern::Any),
        "same-host" => Some(Pattern::SameHost),
        text => match text.split_once("://*.") {
            Some((scheme, parent)) => {
                let sample = normalized(&format!("{scheme}://{parent}"))?;
                let (scheme, parent) = sample.split_once("://")?;
                Some(Pattern::Wildcard {
                    scheme: scheme.into(),
                    rest: format!(".{parent}").into(),
                })
            }
            None => normalized(text).map(|exact| Pattern::Exact(exact.into())),
        },
    }
}

/// RFC 6454 section 6.2: scheme, host and port, the port left out where it is the scheme's own; or `null`.
fn normalized(origin: &str) -> Option<String> {
    if origin == "null" {
        return Some(origin.to_owned());
    }
    let uri: Uri = origin.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let bare = uri.query().is_none() && matches!(uri.path(), "" | "/") && !origin.ends_with('/');
    if !bare || authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    Some(match authority.port_u16().filter(|port| Some(*port) != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => to.serialize_str("*"),
            Self::SameHost => to.serialize_str("same-host"),
            Self::Exact(exact) => to.serialize_str(exact),
            Self::Wildcard { scheme, rest } => to.collect_str(&format_args!("{scheme}://*{rest}")),
        }
    }
}
