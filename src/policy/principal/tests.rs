use super::*;
use proptest::prelude::*;

fn principal(subject: &str, source: Value) -> Principal {
    Principal::new(Parts {
        kind: Kind::ApiKey,
        subject,
        identity: None,
        source,
    })
    .unwrap()
}

fn told(principal: &Principal) -> Value {
    serde_json::from_str(principal.header().to_str().unwrap()).unwrap()
}

#[test]
fn the_header_is_compact_json_in_ascii() {
    let principal = principal("J\u{fc}rg \u{1f600}\r\n\"\u{7f}", json!({"name": "k1"}));
    assert_eq!(
        principal.header(),
        r#"{"version":"v1","subject":"J\u00fcrg \ud83d\ude00\r\n\"\u007f","type":"ApiKey","source":{"key":{"name":"k1"}}}"#
    );
}

#[test]
fn a_source_that_has_no_room_is_cut_and_its_fields_are_still_found() {
    let principal = principal("ann", json!({"meta": {"plan": "pro", "pad": "x".repeat(5000)}}));
    let cut = json!({"key": {}, "truncated": true});
    assert_eq!(
        told(&principal),
        json!({"version": "v1", "subject": "ann", "type": "ApiKey", "source": cut})
    );
    assert_eq!(principal.field("source.key.meta.plan").as_deref(), Some("pro"));
}

#[test]
fn an_identity_goes_after_the_source_where_there_is_no_room() {
    let parts = |identity: &str, source: &str| Parts {
        kind: Kind::Forwarded,
        subject: "ann",
        identity: Some(json!(identity)),
        source: json!(source),
    };
    let big = "x".repeat(3900);
    let source_cut = told(&Principal::new(parts(&big, "y".repeat(300).as_str())).unwrap());
    assert_eq!(
        (&source_cut["identity"], &source_cut["source"]["truncated"]),
        (&json!(big), &json!(true))
    );
    let both_cut = told(&Principal::new(parts(&"x".repeat(9000), "y")).unwrap());
    assert_eq!(
        (&both_cut["identity"], &both_cut["source"]["truncated"]),
        (&Value::Null, &json!(true))
    );
}

#[test]
fn a_subject_is_never_cut_nor_empty() {
    let of = |subject: &str| {
        Principal::new(Parts {
            kind: Kind::Jwt,
            subject,
            identity: None,
            source: json!({}),
        })
    };
    assert_eq!(of(""), Err(InvalidSubject));
    assert!(of(&"a".repeat(2046)).is_ok());
    assert_eq!(of(&"a".repeat(2047)), Err(InvalidSubject));
    // Six bytes each, once escaped.
    assert_eq!(of(&"\u{fc}".repeat(400)), Err(InvalidSubject));
}

#[test]
fn fields_are_found_by_path() {
    let source = json!({"meta": {"plan": "pro", "seats": 5, "trial": false, "tags": ["a"], "none": null,
        "https://example.com/plan": "gold", "a": {"b": 1}, "a.b": 2}});
    let principal = principal("ann", source);
    let field = |path| principal.field(path).map(Cow::into_owned);
    let found = [
        ("subject", "ann"),
        ("type", "ApiKey"),
        ("source.key.meta.plan", "pro"),
        ("source.key.meta.seats", "5"),
        ("source.key.meta.trial", "false"),
        ("source.key.meta.https://example.com/plan", "gold"),
        ("source.key.meta.a.b", "2"),
    ];
    for (path, value) in found {
        assert_eq!(field(path).as_deref(), Some(value), "{path}");
    }
    for path in [
        "",
        ".",
        "source",
        "source.key.meta",
        "source.key.meta.tags",
        "source.key.meta.none",
        "subject.x",
        "source..key",
        "identity",
    ] {
        assert_eq!(field(path), None, "{path}");
    }
}

#[test]
fn a_certificate_speaks_by_its_name_else_an_alternative_else_its_hash() {
    let holder = |subject: &str, uris: &[&str], names: &[&str]| Holder {
        subject: subject.to_owned(),
        uris: uris.iter().map(|name| (*name).to_owned()).collect(),
        dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
        hash: "ab".repeat(32),
    };
    let subject = |holder| Principal::of_certificate(holder).unwrap().subject().to_owned();
    assert_eq!(subject(holder("CN=Ann", &["spiffe://a/b"], &[])), "CN=Ann");
    assert_eq!(subject(holder("", &["spiffe://a/b"], &["a.example"])), "spiffe://a/b");
    assert_eq!(subject(holder("", &[], &["a.example"])), "a.example");
    let hash = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(subject(holder("", &[], &[])), hash);
    assert_eq!(subject(holder(&"\u{fc}".repeat(1000), &["spiffe://a/b"], &[])), hash);
    let ann = Principal::of_certificate(holder("CN=Ann", &[], &["a.example"])).unwrap();
    assert_eq!(told(&ann)["source"]["certificate"]["dnsNames"], json!(["a.example"]));
}

#[test]
fn nobody_is_named_when_it_is_printed() {
    assert_eq!(
        format!("{:?}", principal("ann", json!({"meta": "hush"}))),
        "Principal(ApiKey)"
    );
}

proptest! {
    #[test]
    fn any_subject_and_source_fit_a_header_and_read_back(subject in "\\PC{1,60}", text in any::<String>()) {
        let principal = principal(&subject, json!({"meta": text}));
        let header = principal.header().as_bytes();
        prop_assert!(header.len() <= MAX_LENGTH && header.iter().all(|byte| matches!(byte, b' '..=b'~')));
        let told = told(&principal);
        prop_assert_eq!(&told["subject"], &json!(subject));
        if told["source"]["truncated"].is_null() {
            prop_assert_eq!(&told["source"]["key"]["meta"], &json!(text));
        }
        let found = principal.field("source.key.meta");
        prop_assert_eq!(found.as_deref(), Some(text.as_str()));
    }
}
