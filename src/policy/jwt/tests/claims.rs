//! What a verified token must say, and how long it is remembered.

use super::*;

#[tokio::test]
async fn a_token_holds_from_its_begin_to_its_end_as_far_as_clocks_differ() {
    let expired = || is(Flaw::Expired);
    let early = || is(Flaw::NotYetValid);
    for (changes, wanted) in [
        (json!({"exp": NOW + 1}), None),
        (json!({"exp": NOW - 29}), None),
        (json!({"exp": NOW - 30}), expired()),
        (json!({"exp": NOW as f64 - 29.5}), None),
        (json!({"exp": NOW - 600}), expired()),
        (json!({"exp": null}), expired()),
        (json!({"exp": 1e300}), None),
        (json!({"exp": (NOW + 600).to_string()}), is(Flaw::Malformed)),
        (json!({"exp": [NOW + 600]}), is(Flaw::Malformed)),
        (json!({"nbf": NOW + 30}), None),
        (json!({"nbf": NOW + 31}), early()),
        (json!({"nbf": "soon"}), is(Flaw::Malformed)),
        (json!({"iat": NOW + 30}), None),
        (json!({"iat": NOW + 31}), early()),
    ] {
        assert_eq!(claims_flaw(&with(changes.clone())).await, wanted, "{changes}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_compared_whole() {
    for (changes, wanted) in [
        (json!({"iss": "https://issuer.example/"}), is(Flaw::Issuer)),
        (json!({"iss": "HTTPS://ISSUER.EXAMPLE"}), is(Flaw::Issuer)),
        (json!({"iss": ["https://issuer.example"]}), is(Flaw::Issuer)),
        (json!({"iss": null}), is(Flaw::Issuer)),
        (json!({"aud": "files"}), None),
        (json!({"aud": ["other", "files"]}), None),
        (json!({"aud": "chat files"}), is(Flaw::Audience)),
        (json!({"aud": "chatter"}), is(Flaw::Audience)),
        (json!({"aud": []}), is(Flaw::Audience)),
        (json!({"aud": [["chat"]]}), is(Flaw::Audience)),
        (json!({"aud": null}), is(Flaw::Audience)),
    ] {
        assert_eq!(claims_flaw(&with(changes.clone())).await, wanted, "{changes}");
    }
    let any = Jwt {
        audiences: Box::default(),
        ..rule()
    };
    let token = ISSUER.token(&json!({"alg": "ES256"}), &with(json!({"aud": "other"})));
    assert_eq!(flaw(&any, &token).await, None);
}

#[tokio::test]
async fn a_claim_that_stands_there_twice_is_no_claim() {
    let (start, _) = claims()
        .to_string()
        .rsplit_once('}')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for twice in [
        r#""sub":"bob""#,
        r#""exp":9999999999"#,
        r#""aud":"files""#,
        r#""s\u0075b":"bob""#,
    ] {
        let token = ISSUER.token_of(r#"{"alg":"ES256"}"#, &format!("{start},{twice}}}"));
        assert_eq!(flaw(&rule(), &token).await, is(Flaw::Malformed), "{twice}");
    }
}

#[tokio::test]
async fn required_claims_have_to_be_there() {
    let required = |claim: &str, value: Option<&str>| Jwt {
        required_claims: Box::new([RequiredClaim {
            claim: claim.into(),
            value: value.map(Into::into),
        }]),
        ..rule()
    };
    let token = |changes| ISSUER.token(&json!({"alg": "ES256"}), &with(changes));
    for (claim, value, changes, holds) in [
        ("email", None, json!({"email": "a@example"}), true),
        ("email", None, json!({"email": false}), true),
        ("email", None, json!({}), false),
        ("role", Some("admin"), json!({"role": "admin"}), true),
        ("role", Some("admin"), json!({"role": ["user", "admin"]}), true),
        ("role", Some("admin"), json!({"role": "administrator"}), false),
        ("role", Some("admin"), json!({"role": {"admin": true}}), false),
        ("role", Some("1"), json!({"role": 1}), false),
    ] {
        let found = flaw(&required(claim, value), &token(changes.clone())).await;
        assert_eq!(found, is(Flaw::Claim).filter(|_| !holds), "{claim} {value:?} {changes}");
    }
    // Null is not there.
    let null = claims().to_string().replacen('{', "{\"email\":null,", 1);
    let null = ISSUER.token_of(r#"{"alg":"ES256"}"#, &null);
    assert_eq!(flaw(&required("email", None), &null).await, is(Flaw::Claim));
}

#[tokio::test]
async fn the_subject_is_a_text_or_a_number() {
    let other = Jwt {
        subject_claim: "user_id".into(),
        ..rule()
    };
    for (user, wanted) in [
        (json!("u-1"), Some("u-1")),
        (json!(7), Some("7")),
        (json!(""), None),
        (json!(["u-1"]), None),
        (json!(null), None),
    ] {
        let token = ISSUER.token(&json!({"alg": "ES256"}), &with(json!({"user_id": user})));
        let principal = check(&other, &token).await;
        assert_eq!(
            principal.ok().flatten().as_deref().map(Principal::subject),
            wanted,
            "{user}"
        );
    }
}

#[tokio::test]
async fn permissions_are_a_list_or_a_text_with_spaces() {
    let needing = |claim: &str| Jwt {
        permissions: Some(Permissions::parse("chat.read AND chat.write").unwrap()),
        permissions_claim: claim.into(),
        ..rule()
    };
    for (claim, value, allowed) in [
        ("permissions", json!(["chat.read", "chat.write"]), true),
        ("permissions", json!(["chat.read"]), false),
        ("permissions", json!(["chat.read chat.write"]), false),
        ("permissions", json!({"chat.read": 1, "chat.write": 1}), false),
        ("scope", json!("openid chat.write  chat.read"), true),
        ("scope", json!("chat.read"), false),
    ] {
        let token = ISSUER.token(&json!({"alg": "ES256"}), &with(json!({claim: value})));
        let refused = check(&needing(claim), &token).await.err().map(|refusal| refusal.reason);
        assert_eq!(refused.is_none(), allowed, "{claim} {value}");
        assert_eq!(
            refused.unwrap_or(Reason::InsufficientPermissions),
            Reason::InsufficientPermissions
        );
    }
}

#[tokio::test]
async fn without_a_token_a_request_is_anonymous_or_refused_and_with_a_wrong_one_always_refused() {
    let optional = Jwt {
        optional: true,
        ..rule()
    };
    assert!(check(&optional, "").await.unwrap().is_none());
    assert_eq!(flaw(&optional, "x.y.z").await, is(Flaw::Malformed));
    let refusal = check(&rule(), "").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::MissingCredentials);
    assert_eq!(refusal.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"postern\"");
}

#[tokio::test]
async fn what_was_never_fetched_cannot_verify() {
    let fetched = Slot::default();
    fetched.fill(Arc::default());
    let unfetched = Jwt {
        keys: Keys::Url {
            url: Uri::from_static("https://issuer.example/keys"),
            fetched,
        },
        ..rule()
    };
    let refusal = check(&unfetched, "x.y.z").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::AuthUnavailable);
}

#[tokio::test]
async fn a_token_that_was_verified_is_remembered_until_its_end_or_its_keys() {
    let mut rule = rule();
    let token = ISSUER.token(&json!({"alg": "ES256"}), &claims());
    let first = check(&rule, &token).await.unwrap().unwrap();
    let second = check(&rule, &token).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let end = NOW + 600 + 30;
    assert!(check_at(&rule, &token, end - 1).await.is_ok());
    assert_eq!(
        check_at(&rule, &token, end).await.unwrap_err().reason,
        Reason::InvalidToken
    );
    rule.keys = Keys::Set(set(&json!({"keys": [ISSUER.keys()["keys"][3]]})));
    assert_eq!(flaw(&rule, &token).await, is(Flaw::Signature));
}

#[test]
fn a_thousand_tokens_are_remembered_and_no_more() {
    let verified = Verified::default();
    let keys = set(&ISSUER.keys());
    let principal = Arc::new(rule().principal(serde_json::from_value(claims()).unwrap()).unwrap());
    let digests: Vec<_> = (0..5000).map(|number| Digest::of(&number.to_string())).collect();
    for digest in &digests {
        verified.remember(*digest, &keys, &principal, f64::MAX);
    }
    let found = digests
        .iter()
        .filter(|digest| verified.find(digest, &keys, NOW).is_some())
        .count();
    assert!((512..=1024).contains(&found), "{found}");
}
