//! Where a credential is found, and what is none.

mod stripped;

use std::net::{IpAddr, Ipv4Addr};

use http::Method;

use super::*;
use proptest::prelude::*;

/// What a request borrows from.
pub(in crate::policy) struct Head {
    uri: Uri,
    headers: HeaderMap,
    authority: HeaderValue,
}

impl Head {
    /// Values are taken as bytes: a test writes what is no text as Latin-1.
    pub fn new(target: &str, headers: &[(&str, &str)]) -> Self {
        let bytes = |value: &str| {
            value
                .chars()
                .map(|char| u8::try_from(u32::from(char)).unwrap())
                .collect::<Vec<_>>()
        };
        let lines = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(&bytes(value)).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        Self {
            uri: target.parse().unwrap(),
            headers,
            authority: HeaderValue::from_static("app.example"),
        }
    }

    pub fn request(&self) -> Request<'_> {
        Request {
            method: &Method::GET,
            headers: &self.headers,
            authority: &self.authority,
            host: "app.example",
            uri: &self.uri,
            client: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            trusted: false,
            https: true,
            web_socket: false,
            certificate: None,
            readings: Default::default(),
        }
    }
}

fn header(name: &'static str, prefix: Option<&str>) -> Place {
    Place::Header {
        name: HeaderName::from_static(name),
        prefix: prefix.map(Into::into),
    }
}

fn query(name: &str) -> Place {
    Place::Query { name: name.into() }
}

fn cookie(name: &str) -> Place {
    Place::Cookie { name: name.into() }
}

fn subprotocol(prefix: &str) -> Place {
    Place::Subprotocol { prefix: prefix.into() }
}

fn hidden(places: impl IntoIterator<Item = Place>) -> Arc<[Source]> {
    let hide = |place| Source { place, forward: false };
    places.into_iter().map(hide).collect()
}

fn found(place: Place, target: &str, headers: &[(&str, &str)]) -> Result<Option<String>, Ambiguous> {
    let head = Head::new(target, headers);
    let found = find(&hidden([place]), &head.request())?;
    Ok(found.map(|found| found.value.into_owned()))
}

fn some(value: &str) -> Result<Option<String>, Ambiguous> {
    Ok(Some(value.to_owned()))
}

#[test]
fn a_bearer_token_follows_its_scheme_in_any_case() {
    let bearer = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("authorization", *line)).collect();
        found(Place::Bearer, "/", &lines)
    };
    assert_eq!(bearer(&["Bearer t"]), some("t"));
    assert_eq!(bearer(&["bEARER \t t"]), some("t"));
    assert_eq!(bearer(&["Bearer t", "Bearer t"]), some("t"));
    for none in ["", "Bearer", "Bearer ", "Bearert", "Basic t", "BearerX t", "t"] {
        assert_eq!(bearer(&[none]), Ok(None), "{none:?}");
    }
    for lines in [
        &["Bearer a", "Bearer b"][..],
        &["Basic a", "Bearer b"],
        &["Bearer a", "bearer a"],
        &["Bearer a b"],
        &["Bearer a, Bearer b"],
        &["Bearer \u{e9}"],
        &["Bearer a\tb"],
    ] {
        assert_eq!(bearer(lines), Err(Ambiguous), "{lines:?}");
    }
}

#[test]
fn a_header_counts_in_every_spelling_that_an_app_might_read() {
    let key = |headers: &[(&str, &str)]| found(header("x-api-key", None), "/", headers);
    assert_eq!(key(&[("X-API-KEY", "k")]), some("k"));
    assert_eq!(key(&[("x-api-key", "k"), ("x_api-key", "k")]), some("k"));
    assert_eq!(key(&[("x-api-key", "k"), ("x_api_key", "other")]), Err(Ambiguous));
    assert_eq!(key(&[("x-api-key", "a"), ("x-api-key", "b")]), Err(Ambiguous));
    assert_eq!(key(&[("x-api-keys", "k")]), Ok(None));
    // One value, whoever would read a list.
    assert_eq!(key(&[("x-api-key", "a, b")]), some("a, b"));
    // Reserved names are nobody's to send.
    assert_eq!(
        found(header("x-postern-key", None), "/", &[("x_postern_key", "k")]),
        Ok(None)
    );
}

#[test]
fn a_header_without_its_prefix_holds_none() {
    let key = |value| {
        found(
            header("authorization", Some("Token ")),
            "/",
            &[("authorization", value)],
        )
    };
    assert_eq!(key("Token k"), some("k"));
    assert_eq!(key("token   k"), some("k"));
    assert_eq!(key("Bearer k"), Ok(None));
    assert_eq!(key("Token"), Ok(None));
}

#[test]
fn a_query_parameter_is_found_decoded() {
    let key = |target| found(query("key"), target, &[]);
    assert_eq!(key("/?a=1&k%65y=a%2Bb%26c&b"), some("a+b&c"));
    assert_eq!(key("/?key=a+b"), some("a b"));
    assert_eq!(key("/?a=1;key=k"), some("k"));
    assert_eq!(key("/?key=k&%6bey=k"), some("k"));
    for none in [
        "/",
        "/?",
        "/?key",
        "/?key=",
        "/?KEY=k",
        "/?xkey=k",
        "/key=k",
        "/?a=key=k",
    ] {
        assert_eq!(key(none), Ok(None), "{none}");
    }
    for ambiguous in [
        "/?key=a&key=b",
        "/?key=a&k%65y=b",
        "/?key=&key=a",
        "/?key=a;b",
        "/?key=%FF",
        "/?key=%0a",
    ] {
        assert_eq!(key(ambiguous), Err(Ambiguous), "{ambiguous}");
    }
}

#[test]
fn a_cookie_is_found_on_any_line() {
    let key = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        found(cookie("key"), "/", &lines)
    };
    assert_eq!(key(&["a=1; key=k"]), some("k"));
    assert_eq!(key(&["a=1", "key=\"k\"; b=2"]), some("k"));
    assert_eq!(key(&["other=\u{e9}\u{ff}; key=k"]), some("k"));
    assert_eq!(key(&["Key=k; xkey=k; a=key=k; key"]), Ok(None));
    assert_eq!(key(&["key=a; key=b"]), Err(Ambiguous));
    assert_eq!(key(&["key=a", "key=b"]), Err(Ambiguous));
}

#[test]
fn a_subprotocol_is_found_in_any_place_of_the_offer() {
    let key = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("sec-websocket-protocol", *line)).collect();
        found(subprotocol("bearer."), "/", &lines)
    };
    assert_eq!(key(&["bearer.t"]), some("t"));
    assert_eq!(key(&["chat,  bearer.t ,v2"]), some("t"));
    assert_eq!(key(&["chat", "bearer.t"]), some("t"));
    for none in ["chat", "bearer.", "Bearer.t", "xbearer.t"] {
        assert_eq!(key(&[none]), Ok(None), "{none}");
    }
    assert_eq!(key(&["bearer.a, bearer.b"]), Err(Ambiguous));
    assert_eq!(key(&["bearer.a", "bearer.b"]), Err(Ambiguous));
}

#[test]
fn a_credential_past_its_bound_is_invalid_and_not_missing() {
    let of_length = |length: usize| found(header("x-api-key", None), "/", &[("x-api-key", &"k".repeat(length))]);
    assert_eq!(of_length(MAX_LENGTH), some(&"k".repeat(MAX_LENGTH)));
    assert_eq!(of_length(MAX_LENGTH + 1), Err(Ambiguous));
}

#[test]
fn the_first_source_that_holds_something_counts() {
    let sources = hidden([Place::Bearer, query("key")]);
    let value = |target, headers: &[(&str, &str)]| {
        let head = Head::new(target, headers);
        let found = find(&sources, &head.request());
        found.map(|found| found.map(|found| found.value.into_owned()))
    };
    assert_eq!(value("/?key=q", &[("authorization", "Bearer b")]), some("b"));
    assert_eq!(value("/?key=q", &[("authorization", "Basic b")]), some("q"));
    // No way around a source that cannot be read.
    assert_eq!(value("/?key=q", &[("authorization", "Bearer \u{e9}")]), Err(Ambiguous));
}
