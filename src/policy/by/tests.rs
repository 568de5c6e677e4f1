use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::json;

use super::*;
use crate::policy::principal::{Kind, Parts};
use proptest::prelude::*;

struct Asked {
    method: Method,
    headers: HeaderMap,
    authority: HeaderValue,
    host: &'static str,
    uri: Uri,
    client: IpAddr,
}

impl Asked {
    fn from(client: &str) -> Self {
        Self {
            method: Method::GET,
            headers: HeaderMap::new(),
            authority: HeaderValue::from_static("app.example"),
            host: "app.example",
            uri: Uri::from_static("/chat"),
            client: client.parse().unwrap(),
        }
    }

    fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn at(mut self, uri: &str) -> Self {
        self.uri = uri.parse().unwrap();
        self
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            headers: &self.headers,
            authority: &self.authority,
            host: self.host,
            uri: &self.uri,
            client: Some(self.client),
            trusted: false,
            https: true,
            web_socket: false,
            certificate: None,
            readings: Default::default(),
        }
    }
}

fn keys(by: &[By]) -> Keys {
    Keys::new(&ObjectKey::new("acme", "guard"), "limit", Mode::Enforce, by)
}

/// The local and the shared key, which must agree on who is the same.
fn both(keys: &Keys, asked: &Asked, principal: Option<&Principal>) -> (u128, u128) {
    let request = asked.request();
    (keys.local(&request, principal), keys.shared(&request, principal))
}

fn same(by: &[By], a: &Asked, b: &Asked) -> bool {
    let keys = keys(by);
    let (a, b) = (both(&keys, a, None), both(&keys, b, None));
    assert_eq!(a.0 == b.0, a.1 == b.1, "local and shared keys agree");
    a == b
}

fn principal(subject: &str) -> Principal {
    Principal::new(Parts {
        kind: Kind::ApiKey,
        subject,
        identity: None,
        source: json!({"meta": {"plan": "gold", "seats": 5}}),
    })
    .unwrap()
}

const IP: By = By::RemoteIp { ipv6_prefix: 64 };

fn header(name: &'static str) -> By {
    By::Header(HeaderName::from_static(name))
}

#[test]
fn an_ipv6_network_is_one_client_and_an_ipv4_address_is() {
    let same = |prefix, a, b| {
        same(
            &[By::RemoteIp { ipv6_prefix: prefix }],
            &Asked::from(a),
            &Asked::from(b),
        )
    };
    assert!(same(64, "2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
    assert!(!same(64, "2001:db8:1:2::1", "2001:db8:1:3::1"));
    assert!(same(48, "2001:db8:1:2::1", "2001:db8:1:3::1"));
    assert!(!same(128, "2001:db8::1", "2001:db8::2"));
    assert!(same(0, "2001:db8::1", "fe80::1"));
    assert!(!same(64, "192.0.2.1", "192.0.2.2"));
    assert!(same(64, "192.0.2.1", "::ffff:192.0.2.1"));
    assert!(!same(0, "0.0.0.0", "::"), "an address of the other family is another");
}

#[test]
fn a_part_that_is_missing_is_the_address() {
    let parts = [
        header("x-key"),
        By::AuthenticatedSubject,
        By::PrincipalField("source.key.meta.plan".into()),
    ];
    for by in parts {
        let by = [by];
        assert!(same(
            &by,
            &Asked::from("192.0.2.1"),
            &Asked::from("192.0.2.1").at("/other")
        ));
        assert!(!same(&by, &Asked::from("192.0.2.1"), &Asked::from("192.0.2.2")));
        assert!(same(&by, &Asked::from("2001:db8::1"), &Asked::from("2001:db8::2")));
    }
    let empty = Asked::from("192.0.2.1").with("x-key", b"");
    assert!(!same(
        &[header("x-key")],
        &empty,
        &Asked::from("192.0.2.2").with("x-key", b"")
    ));
    assert!(same(&[header("x-key")], &empty, &Asked::from("192.0.2.1")));
}

#[test]
fn who_says_his_address_in_a_header_is_not_taken_for_it() {
    let forged = Asked::from("198.51.100.7").with("x-key", &[65, 66, 67, 68]);
    assert!(!same(&[header("x-key")], &forged, &Asked::from("65.66.67.68")));
}

#[test]
fn a_header_that_only_postern_may_say_counts_nobody() {
    let hopping = Asked::from("192.0.2.1").with("x-forwarded-for", b"203.0.113.1");
    let other = Asked::from("192.0.2.1").with("x-forwarded-for", b"203.0.113.2");
    assert!(same(&[header("x-forwarded-for")], &hopping, &other));
}

#[test]
fn each_part_tells_requests_apart_by_what_it_names_alone() {
    let plain = Asked::from("192.0.2.1");
    assert!(!same(&[By::Path], &plain, &Asked::from("192.0.2.1").at("/other")));
    assert!(same(&[By::Path], &plain, &Asked::from("192.0.2.2").at("/%63hat?x=1")));
    assert!(same(&[By::Path], &plain, &Asked::from("192.0.2.2").at("/a/../chat")));
    // Apps that drop parameters or merge slashes take them for one.
    for spelled in ["/chat;x=1", "//chat", "/a;x/..;y/chat", "/%2Fchat", "/\\chat"] {
        assert!(
            same(&[By::Path], &plain, &Asked::from("192.0.2.2").at(spelled)),
            "{spelled}"
        );
    }
    let elsewhere = Asked {
        host: "b.example",
        ..Asked::from("192.0.2.1")
    };
    assert!(!same(&[By::Host], &plain, &elsewhere));
    assert!(same(&[By::Path], &plain, &elsewhere));
    assert!(
        same(&[], &plain, &Asked::from("2001:db8::1").at("/other")),
        "no part: everybody"
    );
}

#[test]
fn a_subject_and_a_field_follow_the_principal_and_not_the_address() {
    let (here, there) = (Asked::from("192.0.2.1"), Asked::from("192.0.2.2"));
    let (alice, bob) = (principal("alice"), principal("bob"));
    let subject = keys(&[By::AuthenticatedSubject]);
    assert_eq!(
        both(&subject, &here, Some(&alice)),
        both(&subject, &there, Some(&alice))
    );
    assert_ne!(both(&subject, &here, Some(&alice)), both(&subject, &here, Some(&bob)));
    let plan = keys(&[By::PrincipalField("source.key.meta.plan".into())]);
    assert_eq!(both(&plan, &here, Some(&alice)), both(&plan, &there, Some(&bob)));
    let absent = keys(&[By::PrincipalField("source.key.meta.none".into())]);
    assert_ne!(both(&absent, &here, Some(&alice)), both(&absent, &there, Some(&alice)));
}

#[test]
fn keys_of_different_rules_and_modes_differ() {
    let asked = Asked::from("192.0.2.1");
    let made = |namespace: &str, policy: &str, rule: &str, mode| {
        let keys = Keys::new(&ObjectKey::new(namespace, policy), rule, mode, [IP]);
        keys.shared(&asked.request(), None)
    };
    let all = [
        made("a", "b", "c", Mode::Enforce),
        made("a", "b", "c", Mode::Shadow),
        made("ab", "", "c", Mode::Enforce),
        made("a", "bc", "", Mode::Enforce),
        made("b", "b", "c", Mode::Enforce),
        made("a", "b", "d", Mode::Enforce),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    let shadow = Keys::new(&ObjectKey::new("a", "b"), "c", Mode::Shadow, [IP]);
    let enforce = Keys::new(&ObjectKey::new("a", "b"), "c", Mode::Enforce, [IP]);
    let request = asked.request();
    assert_ne!(shadow.local(&request, None), enforce.local(&request, None));
}

#[test]
fn a_shared_key_is_the_same_in_every_process_and_version() {
    let keys = keys(&[IP, By::Host]);
    let key = keys.shared(&Asked::from("192.0.2.1").request(), None);
    // SHA-256 over the parts, each with its tag and its length in eight bytes, cut to 128 bits.
    let mut text = Vec::new();
    for (tag, bytes) in [
        (0, &b"acme/guard/limit"[..]),
        (0, &[0]),
        (1, &[192, 0, 2, 1]),
        (6, b"app.example"),
    ] {
        text.push(tag);
        text.extend((bytes.len() as u64).to_le_bytes());
        text.extend(bytes);
    }
    let hash = aws_lc_rs::digest::digest(&SHA256, &text);
    assert_eq!(key.to_be_bytes(), hash.as_ref()[..16]);
}

proptest! {
    /// Whatever stands in two headers, on however many lines: no pair of requests that differ has one key.
    #[test]
    fn no_request_reads_as_another(
        a in lines(), b in lines(), c in lines(), d in lines(),
    ) {
        let asked = |first: &[Vec<u8>], second: &[Vec<u8>]| {
            let mut asked = Asked::from("192.0.2.1");
            for (name, lines) in [("x-a", first), ("x-b", second)] {
                for line in lines {
                    asked = asked.with(name, line);
                }
            }
            asked
        };
        let by = [header("x-a"), header("x-b")];
        // A header that is empty is one that is not there.
        let known = |lines: &[Vec<u8>]| if lines.iter().all(Vec::is_empty) { Vec::new() } else { lines.to_vec() };
        let equal = known(&a) == known(&c) && known(&b) == known(&d);
        prop_assert_eq!(same(&by, &asked(&a, &b), &asked(&c, &d)), equal);
    }
}

fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let line = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b','), Just(0xff)], 0..3);
    proptest::collection::vec(line, 0..3)
}
