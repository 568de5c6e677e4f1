use std::sync::{LazyLock, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, header};
use strum::VariantArray;

use super::keys::MAX_TRIED;
use super::*;
use crate::policy::credentials::Place;
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;

/// The issuer's private keys, one of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

impl Issuer {
    /// Their public halves.
    fn keys(&self) -> Value {
        let public: aws_lc_rs::rsa::PublicKey = self.rsa.public_key().clone();
        let (n, e) = rsa_components(public.as_ref());
        let point = |bytes: &[u8]| {
            let (x, y) = bytes[1..].split_at((bytes.len() - 1) / 2);
            (encode(x), encode(y))
        };
        let (x, y) = point(self.p256.public_key().as_ref());
        let (x384, y384) = point(self.p384.public_key().as_ref());
        json!({"keys": [
            {"kid": "rsa", "kty": "RSA", "n": n, "e": e},
            {"kid": "p256", "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256"},
            {"kid": "p384", "kty": "EC", "crv": "P-384", "x": x384, "y": y384, "key_ops": ["verify"]},
            {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref())},
        ]})
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" | "Ed25519" => self.ed25519.sign(message).as_ref().to_vec(),
            // With the public key for a secret, as who hopes that the algorithm is the token's choice.
            "HS256" => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.rsa.public_key().as_ref());
                aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let parsed: Value = serde_json::from_str(header).unwrap_or_default();
        let signature = self.sign(parsed["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }
}

/// Out of RSAPublicKey (RFC 8017 appendix A.1.1): two INTEGERs in a SEQUENCE, of which the second has few bytes.
fn rsa_components(der: &[u8]) -> (String, String) {
    let e = &der[der.len() - 3..];
    let n = &der[der.len() - 5 - 256..der.len() - 5];
    (encode(n), encode(e))
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: &Value) -> Arc<KeySet> {
    Arc::new(KeySet::read(keys.to_string().as_bytes()).unwrap())
}

fn rule() -> Jwt {
    Jwt {
        issuer: "https://issuer.example".into(),
        audiences: Box::new(["chat".into(), "files".into()]),
        keys: Keys::Set(set(&ISSUER.keys())),
        algorithms: Box::new([
            Algorithm::RS256,
            Algorithm::RS512,
            Algorithm::PS384,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ]),
        clock_skew: 30,
        subject_claim: "sub".into(),
        required_claims: Box::default(),
        permissions: None,
        permissions_claim: "permissions".into(),
        from: Arc::new([Source {
            place: Place::Bearer,
            forward: true,
        }]),
        optional: false,
        verified: Lazy::default(),
    }
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "chat", "sub": "ann", "exp": NOW + 600})
}

/// The claims above with others on top; null takes one away.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

async fn check(rule: &Jwt, token: &str) -> Result<Option<Arc<Principal>>, Refusal> {
    check_at(rule, token, NOW).await
}

async fn check_at(rule: &Jwt, token: &str, now: i64) -> Result<Option<Arc<Principal>>, Refusal> {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    let request = Request {
        method: &Method::GET,
        headers: &headers,
        authority: &HeaderValue::from_static("app.example"),
        host: "app.example",
        uri: &Uri::from_static("/"),
        client: [192, 0, 2, 1].into(),
        trusted: false,
        https: true,
        web_socket: false,
        certificate: None,
        readings: OnceLock::new(),
    };
    let authenticated = rule.check(&request, now).await?;
    Ok(authenticated.map(|authenticated| authenticated.principal))
}

/// Why a token is refused.
async fn flaw(rule: &Jwt, token: &str) -> Option<String> {
    match check(rule, token).await {
        Ok(_) => None,
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::InvalidToken);
            assert!(
                refusal.headers[header::WWW_AUTHENTICATE]
                    .to_str()
                    .unwrap()
                    .contains("invalid_token")
            );
            refusal.detail
        }
    }
}

async fn claims_flaw(claims: &Value) -> Option<String> {
    flaw(&rule(), &ISSUER.token(&json!({"alg": "ES256"}), claims)).await
}

fn is(flaw: Flaw) -> Option<String> {
    Some(flaw.to_string())
}

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

#[test]
fn a_key_that_cannot_be_used_costs_itself() {
    let mut keys = ISSUER.keys();
    let listed = keys["keys"].as_array_mut().unwrap();
    let short = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (n, _) = rsa_components(short.public_key().as_ref());
    for unusable in [
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": encode(&[1; 32]), "y": encode(&[1; 32])}),
        json!({"kty": "RSA", "n": n}),
        json!({"kty": "RSA", "n": &n[..100], "e": "AQAB"}),
        // By 1 everybody signs; an even exponent is none.
        json!({"kty": "RSA", "n": n, "e": "AQ"}),
        json!({"kty": "RSA", "n": n, "e": "Ag"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "!"}),
        json!({"kty": 1}),
        json!("key"),
    ] {
        listed.push(unusable);
    }
    for other in [
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "ES256"}),
        json!({"kty": "RSA", "use": "enc", "n": n, "e": "AQAB"}),
        json!({"kty": "RSA", "alg": "RSA-OAEP", "n": n, "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "key_ops": ["wrapKey"], "n": n, "e": "AQAB"}),
    ] {
        listed.push(other);
    }
    let set = KeySet::read(keys.to_string().as_bytes()).unwrap();
    assert_eq!(set.unusable().len(), 9, "{:?}", set.unusable());
    assert_eq!(serde_json::to_value(&set).unwrap()["keys"], 4);
}

#[test]
fn a_set_without_a_usable_key_is_none() {
    for (text, wanted) in [
        ("", Invalid::NoSet),
        ("[]", Invalid::NoSet),
        (r#"{"keys":{}}"#, Invalid::NoSet),
        (r#"{"keys":[]}"#, Invalid::NoKey(Box::default())),
        (
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
            Invalid::NoKey(Box::default()),
        ),
        (
            r#"{"keys":[{"kty":7}]}"#,
            Invalid::NoKey(Box::new(["keys[0] is malformed".to_owned()])),
        ),
    ] {
        assert_eq!(KeySet::read(text.as_bytes()).unwrap_err(), wanted, "{text}");
    }
    let many = json!({"keys": vec![ISSUER.keys()["keys"][3].clone(); 257]});
    assert_eq!(KeySet::read(many.to_string().as_bytes()).unwrap_err(), Invalid::TooMany);
}

#[test]
fn sets_are_equal_by_what_is_kept_of_them_and_print_no_key() {
    let plain = ISSUER.keys();
    let mut private = plain.clone();
    private["keys"][3]["d"] = json!("bmV2ZXIgdG8gYmUga2VwdA");
    assert_eq!(set(&plain), set(&private));
    let mut renamed = plain.clone();
    renamed["keys"][3]["kid"] = json!("other");
    assert_ne!(set(&plain), set(&renamed));
    let printed = format!("{:?} {}", set(&plain), serde_json::to_string(&*set(&plain)).unwrap());
    assert!(!printed.contains(plain["keys"][3]["x"].as_str().unwrap()), "{printed}");
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
