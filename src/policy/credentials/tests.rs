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
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
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

fn stripped_target(name: &str, target: &str) -> String {
    let uri: Uri = target.parse().unwrap();
    let stripped = Credential(hidden([query(name)])).strip_target(&uri);
    stripped.map_or_else(|| target.to_owned(), |uri| uri.to_string())
}

#[test]
fn the_parameter_is_taken_out_in_every_spelling_and_the_others_stay_as_they_are() {
    let expected = [
        ("/a?key=k", "/a"),
        ("/a?key=k&b=%7e+%2B", "/a?b=%7e+%2B"),
        ("/a?b=1&key=k&c=2", "/a?b=1&c=2"),
        ("/a?b=1&k%65y=k", "/a?b=1"),
        ("/a?%6B%65%79", "/a"),
        ("/a?key&key=&key=k", "/a"),
        ("/a?key=k&", "/a"),
        ("/a?&key=k&", "/a?&"),
        ("/a?b=1;key=k;c=2&d", "/a?b=1;c=2&d"),
        ("/a?key=k;x&d", "/a?d"),
        ("/a?KEY=k&xkey=k&key.=k&b=key", "/a?KEY=k&xkey=k&key.=k&b=key"),
        ("/a?", "/a?"),
        ("/a/key=k", "/a/key=k"),
        ("/%2e%2e//a?key=k", "/%2e%2e//a"),
    ];
    for (target, left) in expected {
        assert_eq!(stripped_target("key", target), left, "{target}");
    }
    assert_eq!(stripped_target("my key", "/?my+key=1&my%20key=2&a"), "/?a");
}

#[test]
fn what_is_forwarded_is_not_touched() {
    let places = [
        Place::Bearer,
        header("x-api-key", None),
        query("key"),
        cookie("key"),
        subprotocol("bearer."),
    ];
    let keep = |place| Source { place, forward: true };
    let credential = Credential(places.map(keep).into());
    let lines = [
        ("authorization", "Bearer t"),
        ("x-api-key", "k"),
        ("cookie", "key=k"),
        ("sec-websocket-protocol", "bearer.t"),
    ];
    let mut head = Head::new("/?key=k", &lines);
    let before = head.headers.clone();
    assert_eq!(credential.strip_headers(&mut head.headers), None);
    assert_eq!((credential.strip_target(&head.uri), head.headers), (None, before));
}

/// Lines of the headers that are left, in their order.
fn stripped(place: Place, lines: &[(&str, &str)]) -> (Vec<String>, Option<HeaderValue>) {
    let mut headers = Head::new("/", lines).headers;
    let echo = Credential(hidden([place])).strip_headers(&mut headers);
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    (headers.iter().map(line).collect(), echo)
}

#[test]
fn headers_are_taken_out_in_every_spelling() {
    let lines = [
        ("x-api-key", "k"),
        ("x_api_key", "k"),
        ("X-Api_Key", "l"),
        ("x-api-keys", "m"),
    ];
    assert_eq!(stripped(header("x-api-key", None), &lines).0, ["x-api-keys: m"]);
    let lines = [("authorization", "Bearer a"), ("authorization", "Basic b"), ("a", "b")];
    assert_eq!(stripped(Place::Bearer, &lines).0, ["a: b"]);
}

#[test]
fn cookies_are_taken_out_one_by_one() {
    let expected: [(&[&str], &[&str]); 8] = [
        (&["key=k"], &[]),
        (&["key=k; b=2"], &["cookie: b=2"]),
        (&["a=1;key=k;  b=\"2\""], &["cookie: a=1;  b=\"2\""]),
        (&["a=1; key=k"], &["cookie: a=1"]),
        (&[" key = k ;; "], &[]),
        (&["key=k", "a=1", "b=2; key=l"], &["cookie: a=1", "cookie: b=2"]),
        (&["a=\u{ff}; key=k"], &["cookie: a=\u{fffd}"]),
        (&["Key=k; key; xkey=k"], &["cookie: Key=k; key; xkey=k"]),
    ];
    for (lines, left) in expected {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        assert_eq!(stripped(cookie("key"), &lines).0, left, "{lines:?}");
    }
}

#[test]
fn the_only_subprotocol_is_echoed_and_one_among_others_is_not() {
    let offer = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("sec-websocket-protocol", *line)).collect();
        stripped(subprotocol("bearer."), &lines)
    };
    let entry = Some(HeaderValue::from_static("bearer.t"));
    assert_eq!(offer(&["bearer.t"]), (vec![], entry.clone()));
    assert_eq!(offer(&[" , bearer.t ,"]), (vec![], entry));
    assert_eq!(
        offer(&["v2, bearer.t,v1"]),
        (vec!["sec-websocket-protocol: v2, v1".to_owned()], None)
    );
    assert_eq!(
        offer(&["bearer.t", "v1"]),
        (vec!["sec-websocket-protocol: v1".to_owned()], None)
    );
    assert_eq!(
        offer(&["v1,v2"]),
        (vec!["sec-websocket-protocol: v1,v2".to_owned()], None)
    );
    assert_eq!(offer(&[]), (vec![], None));
}

#[test]
fn an_app_that_chose_a_subprotocol_has_the_last_word() {
    let entry = HeaderValue::from_static("bearer.t");
    let mut answer = HeaderMap::new();
    echo(&mut answer, &entry);
    assert_eq!(answer[SEC_WEBSOCKET_PROTOCOL], "bearer.t");
    let mut answer = HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v1"))]);
    echo(&mut answer, &entry);
    assert_eq!(answer[SEC_WEBSOCKET_PROTOCOL], "v1");
}

#[test]
fn whatever_was_used_every_place_that_is_hidden_is_cleared() {
    let head = Head::new("/?key=q&a=1", &[("authorization", "Bearer b"), ("cookie", "key=c")]);
    let found = find(&hidden([Place::Bearer, query("key"), cookie("key")]), &head.request());
    let credential = found.unwrap().unwrap().credential;
    assert_eq!(credential.strip_target(&head.uri).unwrap(), "/?a=1");
    let mut headers = head.headers.clone();
    credential.strip_headers(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn sources_are_shown_and_credentials_are_not() {
    let sources = hidden([Place::Bearer, header("x-api-key", None), subprotocol("bearer.")]);
    let shown = serde_json::to_value(&sources).unwrap();
    assert_eq!(shown[0]["forward"], false);
    assert_eq!(shown[1]["place"]["header"]["name"], "x-api-key");
    let head = Head::new("/", &[("authorization", "Bearer hush")]);
    let found = find(&sources, &head.request()).unwrap().unwrap();
    assert!(!format!("{found:?}").contains("hush"));
}

proptest! {
    /// What is left of a query is what was not the parameter, byte for byte and in order, and no reader finds it any more.
    #[test]
    fn nothing_but_the_parameter_leaves_a_query(pairs in prop::collection::vec("(key|k%65y|KEY|a|%6bey|)(=[a-z%2;]{0,4})?", 0..6)) {
        let target = format!("/p?{}", pairs.join("&"));
        let left = stripped_target("key", &target);
        let left: Uri = left.parse().unwrap();
        let query = left.query().unwrap_or_default();
        let head = Head::new(&left.to_string(), &[]);
        prop_assert!(head.request().query().all(|(name, _)| name != "key"));
        if !target.contains(';') {
            let named = |pair: &&String| {
                form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == "key")
            };
            let kept: Vec<_> = pairs.iter().filter(|pair| !named(pair)).cloned().collect();
            prop_assert_eq!(query, kept.join("&"));
        }
        prop_assert!(!query.is_empty() || !left.to_string().ends_with('?') || target == "/p?");
    }

    #[test]
    fn nothing_but_the_cookie_leaves_a_line(pairs in prop::collection::vec("(key|Key|a|b)=[a-z\"]{0,3}", 0..6)) {
        let line = pairs.join("; ");
        let (left, _) = stripped(cookie("key"), &[("cookie", &line)]);
        let kept: Vec<_> = pairs.iter().filter(|pair| !pair.starts_with("key=")).cloned().collect();
        let expected = (!kept.is_empty() || pairs.is_empty()).then(|| format!("cookie: {}", kept.join("; ")));
        prop_assert_eq!(left, Vec::from_iter(expected));
    }
}
