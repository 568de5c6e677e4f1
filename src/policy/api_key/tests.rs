use super::*;
use crate::policy::credentials::Place;
use crate::policy::credentials::tests::Head;

const NOW: i64 = 1_800_000_000;
const LATER: &str = "2027-06-01T00:00:00Z";
const EARLIER: &str = "2027-01-01T00:00:00Z";

fn read(fields: &[(&str, &str)]) -> Result<Key, Unusable> {
    let data = fields.iter().map(|(key, value)| (*key, value.as_bytes()));
    Key::read("ann-key", &Data::from_iter(data))
}

fn rule(keys: impl IntoIterator<Item = Key>) -> ApiKey {
    ApiKey {
        keys: KeySet::new(keys.into_iter().map(Arc::new)),
        from: Arc::new([Source {
            place: Place::Bearer,
            forward: true,
        }]),
        permissions: None,
        optional: false,
    }
}

fn check(rule: &ApiKey, authorization: &str) -> Result<Option<Authenticated>, Refusal> {
    let lines = [("authorization", authorization)];
    let lines = if authorization.is_empty() { &[][..] } else { &lines };
    rule.check(&Head::new("/", lines).request(), NOW)
}

fn refused(rule: &ApiKey, authorization: &str) -> (Reason, Option<String>) {
    let refusal = check(rule, authorization).unwrap_err();
    let challenge = refusal.headers.get("www-authenticate");
    let challenge = challenge.map(|challenge| challenge.to_str().unwrap().to_owned());
    (refusal.reason, challenge)
}

fn hex(key: &str) -> String {
    digest(&SHA256, key.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

#[test]
fn a_key_is_known_by_its_text_or_its_hash() {
    for fields in [
        ("key", "k1\n".to_owned()),
        ("sha256", hex("k1")),
        ("sha256", hex("k1").to_lowercase() + "\n"),
    ] {
        let rule = rule([read(&[(fields.0, &fields.1)]).unwrap()]);
        let found = check(&rule, "Bearer k1").unwrap().unwrap();
        assert_eq!(found.principal.subject(), "ann-key");
        for other in [
            "Bearer k2",
            "Bearer K1",
            "Bearer k",
            "Bearer k11",
            &format!("Bearer {}", hex("k1")),
        ] {
            assert_eq!(refused(&rule, other).0, Reason::InvalidKey, "{other}");
        }
    }
}

#[test]
fn the_principal_says_what_the_secret_does() {
    let key = read(&[
        ("key", "k1"),
        ("subject", "ann"),
        ("expiresAt", LATER),
        ("permissions", "chat.read, chat.write\nadmin"),
        ("roles", "owner"),
        ("meta", r#"{"plan": "pro"}"#),
        ("enabled", "true"),
    ]);
    let principal = key.unwrap().principal;
    assert_eq!(
        principal.header(),
        concat!(
            r#"{"version":"v1","subject":"ann","type":"ApiKey","source":{"key":{"expiresAt":"2027-06-01T00:00:00Z","#,
            r#""meta":{"plan":"pro"},"name":"ann-key","permissions":["chat.read","chat.write","admin"],"roles":["owner"]}}}"#
        )
    );
    assert_eq!(principal.field("source.key.meta.plan").as_deref(), Some("pro"));
}

#[test]
fn no_key_is_missing_and_a_wrong_one_is_invalid() {
    let rule = rule([read(&[("key", "k1")]).unwrap()]);
    let missing = Some(r#"Bearer realm="postern""#.to_owned());
    assert_eq!(refused(&rule, ""), (Reason::MissingCredentials, missing));
    let invalid = Some(r#"Bearer realm="postern", error="invalid_token""#.to_owned());
    assert_eq!(refused(&rule, "Bearer k2"), (Reason::InvalidKey, invalid.clone()));
    assert_eq!(refused(&rule, "Bearer \u{e9}"), (Reason::InvalidKey, invalid));
}

#[test]
fn an_optional_key_may_be_missing_but_not_wrong() {
    let rule = ApiKey {
        optional: true,
        ..rule([read(&[("key", "k1")]).unwrap()])
    };
    assert!(check(&rule, "").unwrap().is_none());
    assert!(check(&rule, "Basic abc").unwrap().is_none());
    assert!(check(&rule, "Bearer k1").unwrap().is_some());
    assert_eq!(refused(&rule, "Bearer k2").0, Reason::InvalidKey);
}

#[test]
fn a_key_that_is_disabled_or_expired_is_invalid_like_an_unknown_one() {
    let of = |field, value| rule([read(&[("key", "k1"), (field, value)]).unwrap()]);
    let unknown = refused(&rule([]), "Bearer k1");
    assert_eq!(refused(&of("enabled", "false"), "Bearer k1"), unknown);
    assert_eq!(refused(&of("expiresAt", EARLIER), "Bearer k1"), unknown);
    assert!(check(&of("expiresAt", LATER), "Bearer k1").is_ok());
    // In its last second, and not in the next.
    let last = Timestamp::from_second(NOW + 1).unwrap().to_string();
    assert!(check(&of("expiresAt", &last), "Bearer k1").is_ok());
    let past = Timestamp::from_second(NOW).unwrap().to_string();
    assert_eq!(refused(&of("expiresAt", &past), "Bearer k1"), unknown);
}

#[test]
fn a_key_that_permits_too_little_is_refused_without_a_challenge() {
    let key = || read(&[("key", "k1"), ("permissions", "chat.read")]).unwrap();
    let needing = |text| ApiKey {
        permissions: Some(Permissions::parse(text).unwrap()),
        ..rule([key()])
    };
    assert!(check(&needing("chat.read OR admin"), "Bearer k1").is_ok());
    assert_eq!(
        refused(&needing("chat.write"), "Bearer k1"),
        (Reason::InsufficientPermissions, None)
    );
}

#[test]
fn of_copies_of_a_key_the_strictest_counts() {
    let copy = |name, field, value: &str| {
        let data = Data::from_iter([("key", &b"k1"[..]), (field, value.as_bytes())]);
        Key::read(name, &data).unwrap()
    };
    let subject = |keys| check(&rule(keys), "Bearer k1").map(|found| found.unwrap().principal.subject().to_owned());
    assert!(subject(vec![copy("a", "enabled", "true"), copy("b", "enabled", "false")]).is_err());
    assert!(subject(vec![copy("a", "enabled", "true"), copy("b", "expiresAt", EARLIER)]).is_err());
    assert_eq!(
        subject(vec![copy("b", "enabled", "true"), copy("a", "enabled", "true")]).unwrap(),
        "a"
    );
}

#[test]
fn a_malformed_secret_is_refused_and_not_quoted() {
    let long = "k".repeat(MAX_KEY + 1);
    let many = "p ".repeat(MAX_LIST + 1);
    let refused: [(&[(&str, &str)], Unusable); 22] = [
        (&[], Unusable::NotOneKey),
        (&[("key", "hush"), ("sha256", "hush")], Unusable::NotOneKey),
        (&[("key", " \n")], Unusable::Key),
        (&[("key", "hush\u{e9}")], Unusable::Key),
        (&[("key", "hu\nsh")], Unusable::Key),
        (&[("key", &long)], Unusable::Key),
        (&[("sha256", "hush")], Unusable::Sha256),
        (&[("sha256", &"g".repeat(64))], Unusable::Sha256),
        (&[("sha256", &"a".repeat(63))], Unusable::Sha256),
        (&[("sha256", &"a".repeat(66))], Unusable::Sha256),
        (&[("sha256", &"\u{e9}".repeat(32))], Unusable::Sha256),
        (&[("key", "k"), ("enabled", "hush")], Unusable::Enabled),
        (&[("key", "k"), ("enabled", "")], Unusable::Enabled),
        (&[("key", "k"), ("expiresAt", "hush")], Unusable::ExpiresAt),
        (&[("key", "k"), ("expiresAt", "")], Unusable::ExpiresAt),
        (
            &[("key", "k"), ("expiresAt", "2027-06-01T00:00:00")],
            Unusable::ExpiresAt,
        ),
        (&[("key", "k"), ("permissions", "hush!")], Unusable::Permissions),
        (
            &[("key", "k"), ("permissions", &many)],
            Unusable::TooMany("permissions"),
        ),
        (&[("key", "k"), ("roles", &many)], Unusable::TooMany("roles")),
        (&[("key", "k"), ("meta", "hush")], Unusable::Meta),
        (&[("key", "k"), ("meta", "[1]")], Unusable::Meta),
        (&[("key", "k"), ("subject", " ")], Unusable::Subject),
    ];
    for (fields, problem) in refused {
        let found = read(fields).unwrap_err();
        assert_eq!(found, problem, "{fields:?}");
        assert!(!found.to_string().contains("hush"));
    }
    let data = Data::from_iter([("key", &b"k\xff"[..])]);
    assert_eq!(Key::read("a", &data).unwrap_err(), Unusable::NotText("key"));
}

#[test]
fn keys_are_equal_by_all_that_they_are_made_of() {
    let set = |fields: &[(&str, &str)]| KeySet::new([Arc::new(read(fields).unwrap())]);
    let key = || set(&[("key", "k1")]);
    assert_eq!(key(), key());
    for other in [
        set(&[("key", "k2")]),
        set(&[("key", "k1"), ("enabled", "false")]),
        set(&[("key", "k1"), ("meta", "{}")]),
        set(&[("key", "k1"), ("permissions", "")]),
        KeySet::new([]),
    ] {
        assert_ne!(key(), other);
    }
    let two = |names: [&str; 2]| {
        KeySet::new(names.map(|name| Arc::new(Key::read(name, &Data::from_iter([("key", name.as_bytes())])).unwrap())))
    };
    assert_eq!(two(["a", "b"]), two(["b", "a"]));
}

#[test]
fn no_key_no_hash_and_no_owner_is_printed() {
    let key = read(&[("key", "hush"), ("subject", "owner"), ("meta", r#"{"plan":"pro"}"#)]).unwrap();
    let shown = format!("{key:?}");
    let rule = rule([key]);
    let shown = shown + &format!("{rule:?}{:?}", check(&rule, "Bearer hush")) + &serde_json::to_string(&rule).unwrap();
    for secret in ["hush", "owner", "pro\"", &hex("hush"), &hex("hush").to_lowercase()] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains(r#""count":1"#));
}
