//! What rules look at: a request as the app would read it, less what no client may say.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::path::Readings;
use super::principal::Principal;
use crate::fields::reserved::{folds_to, is_reserved};
use crate::matching::query;

/// The same for all rules of a request; what one of them works out, the others find.
pub struct Request<'a> {
    /// GET for a WebSocket, over HTTP/2 too.
    pub method: &'a Method,
    /// The client's own, reserved names among them: `header` leaves those out.
    pub headers: &'a HeaderMap,
    /// Verbatim, perhaps with a port.
    pub authority: &'a HeaderValue,
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// Origin form, verbatim.
    pub uri: &'a Uri,
    /// The rightmost hop that is not trusted; never IPv4-mapped. None: it cannot be read, and the client is unknown.
    pub client: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// Whether the client came by TLS, here or at a trusted proxy.
    pub https: bool,
    /// Whether it is a WebSocket handshake.
    pub web_socket: bool,
    /// The principal of a client certificate that Postern verified.
    pub certificate: Option<&'a Arc<Principal>>,
    /// Filled by `readings` where a rule asks for the path.
    pub readings: OnceLock<Readings<'a>>,
}

impl<'a> Request<'a> {
    /// Bytes of target and header fields, what is around them included.
    pub fn size(&self) -> usize {
        let fields = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4);
        self.uri.path_and_query().map_or(0, |target| target.as_str().len()) + fields.sum::<usize>()
    }

    /// Percent-decoded, dot segments resolved.
    pub fn path(&self) -> &str {
        self.readings().usual()
    }

    /// The ways in which apps may read the path; worked out once.
    pub fn readings(&self) -> &Readings<'a> {
        self.readings.get_or_init(|| Readings::of(self.uri.path()))
    }

    /// Decoded pairs in their order. `;` separates them as well, to some apps: such a pair is given both ways.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let query = self.uri.query().unwrap_or_default();
        let whole = query.split('&');
        let parts = query.contains(';').then(|| query.split(['&', ';']));
        let texts = whole.chain(parts.into_iter().flatten()).filter(|text| !text.is_empty());
        texts.map(query::pair)
    }

    /// The pairs of all Cookie lines. A quoted value loses its quotes; a pair without `=` is a name, as some apps read it.
    pub fn cookies(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let lines = self.headers.get_all(header::COOKIE).into_iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let pairs = pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(end + 1..).unwrap_or_default().trim_ascii();
            let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            // One that is no text is still seen: a rule may ask no more than whether it is there.
            let text = String::from_utf8_lossy;
            (text(pair[..end].trim_ascii()), text(bare.unwrap_or(value)))
        })
    }

    /// The lines of this very name. None of a name that is Postern's to say, or a trusted proxy's.
    pub fn header(&self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let may_say = self.trusted && !name.as_str().starts_with("x-postern-");
        let reserved = !may_say && is_reserved(name.as_str());
        let lines = (!reserved).then(|| self.headers.get_all(name));
        lines.into_iter().flatten()
    }

    /// Every line of the name, in whatever spelling an app may fold into it.
    pub fn header_lines(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
        let aliases = self.headers.iter().filter(move |(found, _)| {
            *found != name
                && folds_to(found.as_str().as_bytes(), name.as_str().as_bytes())
                && !is_reserved(found.as_str())
        });
        let lines = self.header(name).chain(aliases.map(|(_, value)| value));
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()))
    }
}

// By hand: credentials stand in headers and query.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.uri.path();
        write!(f, "Request({} {} {path})", self.method, self.host)
    }
}
