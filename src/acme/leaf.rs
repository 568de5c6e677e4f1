//! What a chain and its key in PEM are worth to a hostname.

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::schedule::Validity;

/// None: they do not fit each other or the name, or cannot be read.
pub fn usable(chain: &[u8], key: &[u8], hostname: &str) -> Option<Validity> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().ok()?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key).ok()?).ok()?;
    let leaf = chain.first()?.clone();
    CertifiedKey::new(chain, key).keys_match().ok()?;
    let name = ServerName::try_from(hostname).ok()?;
    verify_server_name(&ParsedCertificate::try_from(&leaf).ok()?, &name).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    Some(Validity {
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_of_use_to_its_name_with_its_key() {
        let (chain, key) = made("a.example.com");
        let of = |chain: &str, key: &str, name: &str| usable(chain.as_bytes(), key.as_bytes(), name);
        let validity = of(&chain, &key, "a.example.com").unwrap();
        assert_eq!(validity.not_after - validity.not_before, 90 * 86_400);
        assert_eq!(of(&chain, &key, "b.example.com"), None);
        assert_eq!(of(&chain, &made("a.example.com").1, "a.example.com"), None);
        assert_eq!(of("", &key, "a.example.com"), None);
        assert_eq!(of(&chain, "", "a.example.com"), None);
        assert_eq!(of("garbage", "garbage", "a.example.com"), None);
    }
}
