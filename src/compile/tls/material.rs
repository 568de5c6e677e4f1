//! From the bytes of Secrets and ConfigMaps to certificates and authorities. Errors say what is wrong and never quote what
//! was read.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::compile::references::Unusable;
use crate::condition::ConditionReason;
use crate::hostname::HostName;
use crate::object::{Data, ObjectKey};
use crate::store::Secret;
use crate::tls::{Authorities, Certificate, Fingerprint};

/// A certificate, and what only its renewal asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    pub certificate: Arc<Certificate>,
    /// In Unix seconds.
    pub not_before: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("is not of type kubernetes.io/tls")]
    NotTls,
    #[error("has no {0}")]
    Missing(&'static str),
    #[error("contains no PEM certificate under {0}")]
    NoCertificate(&'static str),
    #[error("contains more than {1} certificates under {0}")]
    TooMany(&'static str, usize),
    #[error("contains an invalid certificate under tls.crt")]
    Leaf,
    #[error("contains a certificate for more than {MAX_NAMES} names")]
    TooManyNames,
    #[error("contains no PEM private key under tls.key (encrypted keys are not supported)")]
    NoKey,
    #[error("contains a private key of an unsupported kind or size")]
    Key,
    #[error("contains a private key that does not belong to the first certificate under tls.crt")]
    Mismatch,
    #[error("contains a certificate under ca.crt, at position {0}, that is not the certificate of an authority")]
    Authority(usize),
}

const MAX_CHAIN: usize = 16;
const MAX_AUTHORITIES: usize = 512;
const MAX_NAMES: usize = 1000;

/// The certificate chain and key of a kubernetes.io/tls Secret; they must belong together.
pub fn leaf(secret: &Secret) -> Result<Leaf, Fault> {
    if !secret.tls {
        return Err(Fault::NotTls);
    }
    let chain = certificates(&secret.data, "tls.crt", MAX_CHAIN)?;
    let key = secret.data.get("tls.key").ok_or(Fault::Missing("tls.key"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Fault::NoKey)?;
    let fingerprint = Fingerprint::of(chain.iter().map(AsRef::as_ref).chain([key.secret_der()]));

    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).map_err(|_| Fault::Leaf)?;
    let alternatives = parsed.subject_alternative_name().map_err(|_| Fault::Leaf)?;
    // What is no hostname (an address, a name with an underscore) is never asked for as one.
    let names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => name.parse::<HostName>().ok(),
        _ => None,
    });
    let mut names: Vec<_> = names.take(MAX_NAMES + 1).collect();
    if names.len() > MAX_NAMES {
        return Err(Fault::TooManyNames);
    }
    names.sort();
    names.dedup();
    let validity = parsed.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());

    let key = any_supported_type(&key).map_err(|_| Fault::Key)?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| Fault::Mismatch)?;
    Ok(Leaf {
        certificate: Arc::new(Certificate {
            secret: secret.key.clone(),
            names: names.into(),
            not_after,
            fingerprint,
            key: Arc::new(key),
        }),
        not_before,
    })
}

/// The certificates under ca.crt; `source` is the object that holds them.
pub fn authorities(source: &ObjectKey, data: &Data) -> Result<Arc<Authorities>, Fault> {
    let certificates = certificates(data, "ca.crt", MAX_AUTHORITIES)?;
    let fingerprint = Fingerprint::of(certificates.iter().map(AsRef::as_ref));
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|_| Fault::Authority(at))?;
    }
    Ok(Arc::new(Authorities {
        source: source.clone(),
        fingerprint,
        roots: Arc::new(roots),
    }))
}

/// At least one, at most `max`.
fn certificates(data: &Data, key: &'static str, max: usize) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = data.get(key).ok_or(Fault::Missing(key))?;
    let found = CertificateDer::pem_slice_iter(bytes).take(max + 1);
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|_| Fault::NoCertificate(key))?;
    match found.len() {
        0 => Err(Fault::NoCertificate(key)),
        n if n > max => Err(Fault::TooMany(key, max)),
        _ => Ok(found),
    }
}

impl From<Fault> for Unusable {
    fn from(fault: Fault) -> Self {
        Self::Invalid {
            reason: ConditionReason::InvalidCertificate,
            text: fault.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::prelude::{BASE64_STANDARD, Engine};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Pair {
        der: Vec<u8>,
        chain: String,
        key: String,
    }

    static PAIR: LazyLock<Pair> = LazyLock::new(|| pair(&["b.example.com", "A.Example.COM", "*.a.example.com"]));

    fn pair(names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Pair {
            der: certificate.der().to_vec(),
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn secret(chain: &[u8], key: &[u8]) -> Secret {
        Secret {
            key: ObjectKey::new("n", "s"),
            uid: "u".into(),
            labels: Default::default(),
            tls: true,
            purpose: None,
            data: Data::from_iter([("tls.crt", chain), ("tls.key", key)]),
        }
    }

    fn fault(chain: &str, key: &str) -> Option<Fault> {
        leaf(&secret(chain.as_bytes(), key.as_bytes())).err()
    }

    #[test]
    fn names_are_hostnames_in_order_and_the_fingerprint_is_the_contents() {
        let Pair { chain, key, .. } = &*PAIR;
        let Leaf { certificate, .. } = leaf(&secret(chain.as_bytes(), key.as_bytes())).unwrap();
        let names: Vec<_> = certificate.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example.com", "b.example.com", "*.a.example.com"]);
        let remarks = format!("# a remark\n{chain}");
        let same = leaf(&secret(remarks.as_bytes(), key.as_bytes())).unwrap();
        assert_eq!(same.certificate, certificate);
        let longer = leaf(&secret(chain.repeat(2).as_bytes(), key.as_bytes())).unwrap();
        assert_ne!(longer.certificate, certificate);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let Pair { chain, key, .. } = &*PAIR;
        assert_eq!(fault(chain, key), None);
        assert_eq!(fault(key, key), Some(Fault::NoCertificate("tls.crt")));
        assert_eq!(fault(chain, chain), Some(Fault::NoKey));
        assert_eq!(fault(chain, &pair(&["a"]).key), Some(Fault::Mismatch));
        assert_eq!(fault(&chain.repeat(16), key), None);
        assert_eq!(fault(&chain.repeat(17), key), Some(Fault::TooMany("tls.crt", 16)));
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(fault(chain, &encrypted), Some(Fault::NoKey));
        assert_eq!(fault(chain, &pem("PRIVATE KEY", b"no key")), Some(Fault::Key));
        assert_eq!(fault(&pem("CERTIFICATE", b"no certificate"), key), Some(Fault::Leaf));
        let many: Vec<_> = (0..1001).map(|n| format!("h{n}.example.com")).collect();
        let many = pair(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(fault(&many.chain, &many.key), Some(Fault::TooManyNames));
        let authority = Data::from_iter([("ca.crt", pem("CERTIFICATE", b"none").into_bytes())]);
        assert_eq!(
            authorities(&ObjectKey::new("n", "s"), &authority),
            Err(Fault::Authority(0))
        );
    }

    fn pem(kind: &str, der: &[u8]) -> String {
        format!(
            "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
            BASE64_STANDARD.encode(der)
        )
    }

    proptest::proptest! {
        /// Whatever somebody writes into a Secret.
        #[test]
        fn no_bytes_make_it_panic(at in 0..2000_usize, byte: u8, cut in 0..2000_usize, noise: Vec<u8>) {
            let mut der = PAIR.der.clone();
            let place = at % der.len();
            der[place] = byte;
            der.truncate(cut.max(place + 1));
            let chain = pem("CERTIFICATE", &der);
            let _ = leaf(&secret(chain.as_bytes(), PAIR.key.as_bytes()));
            let _ = authorities(&ObjectKey::new("n", "s"), &Data::from_iter([("ca.crt", chain.into_bytes())]));
            let key = pem("PRIVATE KEY", &noise);
            let _ = leaf(&secret(PAIR.chain.as_bytes(), key.as_bytes()));
            let _ = leaf(&secret(&noise, &noise));
        }
    }
}
