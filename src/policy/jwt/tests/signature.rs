//! Which key and algorithm verify a token, and what is no token.

use super::*;

#[tokio::test]
async fn a_token_of_each_algorithm_is_verified_with_and_without_the_keys_name() {
    for (algorithm, kid) in [
        ("RS256", "rsa"),
        ("RS512", "rsa"),
        ("PS384", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
        ("Ed25519", "ed"),
    ] {
        for header in [
            json!({"alg": algorithm, "kid": kid, "typ": "JWT"}),
            json!({"alg": algorithm}),
        ] {
            let token = ISSUER.token(&header, &claims());
            let principal = check(&rule(), &token).await.unwrap().unwrap();
            assert_eq!(principal.subject(), "ann", "{header}");
        }
    }
}

/// RFC 8037 appendix A.4 and RFC 7515 appendix A.3.
#[test]
fn the_examples_of_the_rfcs_are_verified() {
    let keys = set(&json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    ]}));
    for (token, algorithm) in [
        (
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijc\
             NR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            Algorithm::EdDSA,
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ij\
             p0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            Algorithm::ES256,
        ),
    ] {
        let parsed = Token::parse(token, &[algorithm]).unwrap();
        let verdict = |signature: &[u8]| keys.verify(algorithm, None, parsed.message, signature);
        assert_eq!(verdict(&parsed.signature), Verdict::Verified);
        let mut forged = parsed.signature.clone();
        forged[9] ^= 1;
        assert_eq!(verdict(&forged), Verdict::UnknownKey);
    }
}

#[tokio::test]
async fn the_algorithm_is_the_rules_and_never_the_tokens() {
    let public = json!({"alg": "HS256", "kid": "rsa"});
    assert_eq!(
        flaw(&rule(), &ISSUER.token(&public, &claims())).await,
        is(Flaw::Algorithm)
    );
    for alg in ["none", "None", "NONE", "", "HS256", "ES512", "RS1", "es256", "RSA-OAEP"] {
        let token = ISSUER.token(&json!({"alg": alg}), &claims());
        assert_eq!(flaw(&rule(), &token).await, is(Flaw::Algorithm), "{alg}");
    }
    let narrow = Jwt {
        algorithms: Box::new([Algorithm::ES256]),
        ..rule()
    };
    let token = ISSUER.token(&json!({"alg": "RS256", "kid": "rsa"}), &claims());
    assert_eq!(flaw(&narrow, &token).await, is(Flaw::Algorithm));
    // Another one of the rule's, but not the key's.
    let swapped = ISSUER.token(&json!({"alg": "ES256", "kid": "rsa"}), &claims());
    assert_eq!(flaw(&rule(), &swapped).await, is(Flaw::Signature));
    let named_otherwise = ISSUER.token_of(r#"{"alg":"RS256","kid":"rsa"}"#, &claims().to_string());
    let (_, rest) = named_otherwise.split_once('.').unwrap();
    let relabelled = format!("{}.{rest}", encode(br#"{"alg":"PS384","kid":"rsa"}"#));
    assert_eq!(flaw(&rule(), &relabelled).await, is(Flaw::Signature));
}

#[tokio::test]
async fn what_the_header_brings_along_is_no_key() {
    let attacker = Issuer {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        ed25519: Ed25519KeyPair::generate().unwrap(),
    };
    let own = &attacker.keys()["keys"][1];
    for header in [
        json!({"alg": "ES256", "jwk": own}),
        json!({"alg": "ES256", "kid": "p256", "jwk": own}),
        json!({"alg": "ES256", "jku": "https://attacker.example/keys", "x5u": "https://attacker.example/x"}),
    ] {
        assert_eq!(
            flaw(&rule(), &attacker.token(&header, &claims())).await,
            is(Flaw::Signature),
            "{header}"
        );
        // Beside a true signature they are nothing at all.
        assert_eq!(flaw(&rule(), &ISSUER.token(&header, &claims())).await, None, "{header}");
    }
}

#[tokio::test]
async fn a_name_of_a_key_is_a_name_and_nothing_else() {
    for kid in [
        "../../../../dev/null",
        "' OR 1=1 --",
        "p256\u{0}",
        "P256",
        "",
        "p384",
        &"k".repeat(5000),
    ] {
        let token = ISSUER.token(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(flaw(&rule(), &token).await, is(Flaw::Signature), "{kid:.20}");
    }
    for kid in [json!(1), json!(["p256"]), json!({})] {
        let token = ISSUER.token(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(flaw(&rule(), &token).await, is(Flaw::Malformed), "{kid}");
    }
}

#[tokio::test]
async fn where_the_set_has_no_names_a_tokens_is_no_matter() {
    let mut keys = ISSUER.keys();
    for key in keys["keys"].as_array_mut().unwrap() {
        key.as_object_mut().unwrap().remove("kid");
    }
    let rule = Jwt {
        keys: Keys::Set(set(&keys)),
        ..rule()
    };
    let token = ISSUER.token(&json!({"alg": "ES256", "kid": "any"}), &claims());
    assert_eq!(flaw(&rule, &token).await, None);
}

#[tokio::test]
async fn of_keys_of_one_name_or_of_none_a_few_are_tried() {
    let others: Vec<_> = (0..MAX_TRIED)
        .map(|_| {
            let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let (x, y) = other.public_key().as_ref()[1..].split_at(32);
            json!({"kid": "p256", "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
        })
        .collect();
    let own = ISSUER.keys()["keys"][1].clone();
    let by = |before: usize| {
        let keys = [&others[..before], std::slice::from_ref(&own)].concat();
        Jwt {
            keys: Keys::Set(set(&json!({"keys": keys}))),
            ..rule()
        }
    };
    for header in [json!({"alg": "ES256"}), json!({"alg": "ES256", "kid": "p256"})] {
        let token = ISSUER.token(&header, &claims());
        assert_eq!(flaw(&by(1), &token).await, None, "{header}");
        assert_eq!(flaw(&by(MAX_TRIED - 1), &token).await, None, "{header}");
        assert_eq!(flaw(&by(MAX_TRIED), &token).await, is(Flaw::Signature), "{header}");
    }
    // A key that has a name is not tried for a token that names another, nor one without for a token that names one.
    let mut nameless = own.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    let rule = Jwt {
        keys: Keys::Set(set(&json!({"keys": [others[0], nameless]}))),
        ..rule()
    };
    for (header, wanted) in [
        (json!({"alg": "ES256"}), None),
        (json!({"alg": "ES256", "kid": "p256"}), is(Flaw::Signature)),
        (json!({"alg": "ES256", "kid": "other"}), is(Flaw::Signature)),
    ] {
        assert_eq!(flaw(&rule, &ISSUER.token(&header, &claims())).await, wanted, "{header}");
    }
}

#[tokio::test]
async fn what_must_be_understood_is_not_and_what_is_no_token_is_refused() {
    let good = ISSUER.token(&json!({"alg": "ES256"}), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    for header in [
        r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","crit":[]}"#,
        r#"{"alg":"ES256","crit":null}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"ES256","kid":"p256","kid":"ed"}"#,
        r#"{"kid":"p256"}"#,
        r#"["ES256"]"#,
        "",
    ] {
        let token = ISSUER.token_of(header, &claims().to_string());
        assert_eq!(flaw(&rule(), &token).await, is(Flaw::Malformed), "{header}");
    }
    for token in [
        "x".to_owned(),
        "..".to_owned(),
        format!("{message}."),
        message.to_owned(),
        format!("{good}="),
        format!("{good}\u{2e}x"),
        format!("{message}.{signature}A"),
        good.replace('.', ".."),
    ] {
        let found = flaw(&rule(), &token).await;
        assert!(found.is_some(), "{token}");
    }
    let long = ISSUER.token(&json!({"alg": "ES256"}), &with(json!({"pad": "x".repeat(8 << 10)})));
    assert_eq!(flaw(&rule(), &long).await, is(Flaw::Malformed));
}

#[tokio::test]
async fn an_encrypted_or_nested_token_is_refused() {
    let encrypted = ["eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ", "a", "b", "c", "d"].join(".");
    assert!(flaw(&rule(), &encrypted).await.is_some());
    let inner = ISSUER.token(&json!({"alg": "ES256"}), &claims());
    let nested = ISSUER.token_of(r#"{"alg":"ES256","cty":"JWT"}"#, &inner);
    assert_eq!(flaw(&rule(), &nested).await, is(Flaw::Malformed));
}

proptest! {
    #[test]
    fn no_text_that_was_changed_is_verified(at in any::<prop::sample::Index>(), byte in "[-_.A-Za-z0-9]") {
        let token = ISSUER.token(&json!({"alg": "EdDSA"}), &claims());
        let at = at.index(token.len());
        prop_assume!(!token[at..].starts_with(&byte));
        let changed = format!("{}{byte}{}", &token[..at], &token[at + 1..]);
        let keys = set(&ISSUER.keys());
        let verified = Token::parse(&changed, Algorithm::VARIANTS).is_ok_and(|parsed| {
            keys.verify(parsed.algorithm, parsed.key_id.as_deref(), parsed.message, &parsed.signature) == Verdict::Verified
        });
        prop_assert!(!verified);
    }

    #[test]
    fn no_text_does_more_than_be_refused(text in "\\PC{0,80}", set in "\\PC{0,80}") {
        if let Ok(token) = Token::parse(&text, Algorithm::VARIANTS) {
            let _ = token.claims();
        }
        let _ = KeySet::read(set.as_bytes());
    }
}
