//! What a scanner of TLS servers finds: OpenSSL offers one thing at a time, down to what nobody should take any more.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::support::backend::Backend;
use crate::support::certs::Authority;
use crate::support::postern::Postern;
use crate::support::site::Site;

const HOST: &str = "app.example.test";

/// Postern with an ECDSA and an RSA certificate, so that no cipher is refused for want of a key.
async fn target() -> (Postern, Backend) {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(serde_json::json!({"tls": [{"secretName": "ecdsa"}, {"secretName": "rsa"}]}))
        .with(authority.server(&[HOST]).secret("default", "ecdsa"))
        .with(authority.rsa_server(&[HOST]).secret("default", "rsa"));
    (Postern::start(&[site]).await, backend)
}

/// One handshake by OpenSSL; what it says of it. Its own floor is off: it would offer nothing old.
async fn handshake(postern: &Postern, arguments: &[&str]) -> (bool, String) {
    let address = postern.https.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", HOST]);
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("openssl is installed"));
    let output = output.await.expect("runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

/// The names of ciphers in OpenSSL's list.
fn ciphers(list: &str) -> Vec<String> {
    let mut command = Command::new("openssl");
    let output = command.args(["ciphers", "-s", "-tls1_2", list]).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("a text");
    names.trim().split(':').map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_below_tls_12_is_spoken() {
    let (postern, _backend) = target().await;
    // That OpenSSL can speak TLS 1.0 and 1.1 at all is what these two show; against Postern they fail by its alert.
    for version in ["-tls1", "-tls1_1"] {
        let (good, text) = handshake(&postern, &[version, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert!(!good, "{version}: {text}");
        let refused = ["alert protocol version", "alert handshake failure"];
        assert!(refused.iter().any(|alert| text.contains(alert)), "{version}: {text}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let (good, text) = handshake(&postern, &[version]).await;
        assert!(good, "{version}: {text}");
    }
}

#[tokio::test]
async fn ssl_3_hello_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // No OpenSSL of today speaks it: the hello by hand (RFC 6101 section 5.6.1.2), which offers one RC4 cipher.
    let (postern, _backend) = target().await;
    let mut body = vec![3, 0];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 5, 1, 0]);
    let mut bytes = vec![22, 3, 0, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    bytes.extend(body);
    let mut stream = tokio::net::TcpStream::connect(postern.https).await.expect("connects");
    stream.write_all(&bytes).await.expect("sends");
    let mut answer = Vec::new();
    crate::support::within("an answer", stream.read_to_end(&mut answer))
        .await
        .expect("an end");
    // A fatal alert.
    assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{answer:?}");
}

#[tokio::test]
async fn tls_12_takes_forward_secret_aead_ciphers_alone() {
    let (postern, _backend) = target().await;
    let mut taken = BTreeSet::new();
    let all = ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0");
    // The list must hold the weak ones, or the scan shows nothing.
    for weak in [
        "AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "AES128-GCM-SHA256",
        "ADH-AES128-SHA",
        "NULL-SHA",
    ] {
        assert!(all.iter().any(|name| name == weak), "OpenSSL does not know {weak}");
    }
    for name in all {
        let cipher = format!("{name}:@SECLEVEL=0");
        let (good, text) = handshake(&postern, &["-tls1_2", "-cipher", &cipher]).await;
        if good {
            taken.insert(name);
        } else {
            assert!(text.contains("alert handshake failure"), "{name}: {text}");
        }
    }
    let strong = [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ];
    assert_eq!(taken, strong.map(str::to_owned).into());
}

#[tokio::test]
async fn compression_and_weak_groups_are_refused() {
    let (postern, _backend) = target().await;
    let (good, text) = handshake(&postern, &["-tls1_2", "-comp"]).await;
    assert!(good && text.contains("Compression: NONE"), "{text}");
    for group in ["secp192r1", "secp224r1", "sect233k1"] {
        let arguments = ["-tls1_2", "-groups", group, "-cipher", "ALL:@SECLEVEL=0"];
        let (good, text) = handshake(&postern, &arguments).await;
        assert!(!good, "{group}: {text}");
    }
    for group in ["X25519", "P-256", "P-384"] {
        let (good, text) = handshake(&postern, &["-groups", group]).await;
        assert!(good, "{group}: {text}");
    }
}

#[tokio::test]
async fn extended_master_secret_and_secure_renegotiation_are_there() {
    let (postern, _backend) = target().await;
    let (good, text) = handshake(&postern, &["-tls1_2"]).await;
    assert!(good, "{text}");
    assert!(text.contains("Extended master secret: yes"), "{text}");
    assert!(text.contains("Secure Renegotiation IS supported"), "{text}");
}
