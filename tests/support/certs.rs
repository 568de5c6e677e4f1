//! A test's own authority and what it signs: as PEM, as rustls takes it, and as the manifests of a cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate authority. Each test has its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A chain and its key.
#[derive(Clone)]
pub struct Leaf {
    /// The leaf alone: its issuer is the authority itself.
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, ecdsa()).expect("signs itself");
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("is an authority");
        roots
    }

    /// As `caRef` names it: labelled, key `ca.crt`.
    pub fn config_map(&self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": {"postern.dev/use": "ca"}},
            "data": {"ca.crt": self.pem()},
        })
    }

    /// For a server of these names (or addresses), with an ECDSA P-256 key, for 90 days.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.sign(server(names), ecdsa(), 90)
    }

    /// The same with an RSA key of 2,048 bits.
    pub fn rsa_server(&self, names: &[&str]) -> Leaf {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("makes a key");
        self.sign(server(names), key, 90)
    }

    /// For a server, ending so many days from now: before now if negative.
    pub fn server_until(&self, names: &[&str], days: i64) -> Leaf {
        self.sign(server(names), ecdsa(), days)
    }

    /// For a client, whose subject is `CN=<name>`.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, ecdsa(), 90)
    }

    fn sign(&self, mut params: CertificateParams, key: KeyPair, days: i64) -> Leaf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let epoch = date_time_ymd(1970, 1, 1);
        let length = DAY * u32::try_from(days.unsigned_abs()).expect("some days");
        params.not_after = if days < 0 {
            epoch + now - length
        } else {
            epoch + now + length
        };
        params.not_before = params.not_after - DAY * 120;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // OpenSSL's strict mode, which Python sets, asks for it.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Leaf {
    /// A kubernetes.io/tls Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Value {
        secret(namespace, name, &self.certificate, &self.key)
    }

    /// As rustls takes it.
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (chain, key)
    }
}

/// A kubernetes.io/tls Secret of any content, a broken one's too.
pub fn secret(namespace: &str, name: &str, certificate: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "data": {
            "tls.crt": BASE64_STANDARD.encode(certificate),
            "tls.key": BASE64_STANDARD.encode(key),
        },
    })
}

fn server(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The names alone say what it is for; the subject is there for whoever prints it.
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().expect("ASCII")),
        })
        .collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn ecdsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("makes a key")
}
