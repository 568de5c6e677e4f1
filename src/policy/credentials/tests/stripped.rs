//! What is taken out of a request for the app, and what of it stays.

use super::*;

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
