//! Key sets as they are read.

use super::*;

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
