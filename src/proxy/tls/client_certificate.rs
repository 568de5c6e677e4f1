//! A client's certificate as apps are told of it: in X-Forwarded-Client-Cert, in the form that Envoy made common
//! (`Hash=<SHA-256 of the certificate>;Subject="<distinguished name>";URI=<name>;DNS=<name>`), and as a principal.

use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::ToDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name};

use crate::policy::Principal;
use crate::policy::principal::Holder;
use crate::text::Hex;

/// One that was verified.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// X-Forwarded-Client-Cert.
    pub told: HeaderValue,
    /// None if the certificate has no usable subject (empty, or too long).
    pub principal: Option<Arc<Principal>>,
}

/// Alternative names that are told of: an app asks for one.
const MAX_NAMES: usize = 8;
/// The longest distinguished or alternative name that is passed on, in bytes.
const MAX_TEXT: usize = 1024;

impl ClientCertificate {
    /// A certificate that is verified already: what cannot be parsed is told of by its hash alone.
    pub fn read(certificate: &CertificateDer<'_>) -> Self {
        let hash = Hex(digest(&SHA256, certificate).as_ref()).to_string();
        let parsed = X509Certificate::from_der(certificate).ok();
        let parsed = parsed.as_ref().map(|(_, parsed)| parsed);
        let names = parsed.and_then(|parsed| parsed.subject_alternative_name().ok().flatten());
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let named = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(("URI", *uri)),
            GeneralName::DNSName(name) => Some(("DNS", *name)),
            _ => None,
        });
        let named: Vec<_> = named.take(MAX_NAMES).collect();
        let told = told(&hash, parsed.map(|parsed| parsed.subject().to_string()), &named);
        let of = |kind| {
            let named = named.iter().filter(move |(found, _)| *found == kind);
            named.map(|(_, name)| (*name).to_owned()).collect()
        };
        let holder = Holder {
            subject: parsed
                .map(|parsed| distinguished_name(parsed.subject()))
                .unwrap_or_default(),
            uris: of("URI"),
            dns_names: of("DNS"),
            hash,
        };
        Self {
            told,
            principal: Principal::of_certificate(holder).ok().map(Arc::new),
        }
    }
}

/// In printable ASCII: nothing in it can end a field or a header.
fn told(hash: &str, subject: Option<String>, named: &[(&str, &str)]) -> HeaderValue {
    let mut text = format!("Hash={hash}");
    if let Some(subject) = subject {
        text.push_str(";Subject=\"");
        // Within its quotes a comma is one.
        push_printable(&mut text, &subject, b";%\"\\");
        text.push('"');
        for (kind, name) in named {
            let _ = write!(text, ";{kind}=");
            push_printable(&mut text, name, b";,%\"\\");
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Hash="))
}

/// As RFC 4514 sections 2.1 to 2.4 have it, in the certificate's own order: no two names are written alike.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let attributes = |attributes: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>| {
        attributes.map(attribute).collect::<Vec<_>>().join("+")
    };
    let names = name.iter_rdn().map(|name| attributes(&mut name.iter()));
    names.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let kind = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
    let mut text = format!("{kind}=");
    match attribute.as_str() {
        Ok(value) => {
            let (first, last) = (0, value.len().saturating_sub(1));
            for (at, char) in value.char_indices() {
                match char {
                    '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', char]),
                    ' ' if at == first || at == last => text.push_str("\\ "),
                    '#' if at == first => text.push_str("\\#"),
                    '\0' => text.push_str("\\00"),
                    char => text.push(char),
                }
            }
        }
        Err(_) => {
            let value = attribute.attr_value().to_der_vec().unwrap_or_default();
            let _ = write!(text, "#{}", Hex(&value));
        }
    }
    text
}

/// What could end a field, and what is not printable, is percent-encoded.
fn push_printable(text: &mut String, value: &str, special: &[u8]) {
    for byte in value.bytes().take(MAX_TEXT) {
        if matches!(byte, b' '..=b'~') && !special.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(params: rcgen::CertificateParams) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let read = ClientCertificate::read(certificate.der());
        read.told.to_str().unwrap().to_owned()
    }

    #[test]
    fn subject_and_names_are_told() {
        let mut params = rcgen::CertificateParams::new(["client.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Ann");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "Acme, Inc.");
        let text = described(params);
        let (hash, rest) = text.split_at(5 + 64);
        assert!(hash.starts_with("Hash=") && hash[5..].bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(rest, ";Subject=\"CN=Ann, O=Acme, Inc.\";DNS=client.example");
    }

    #[test]
    fn no_name_can_end_its_field_or_the_header() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = "a\";URI=spiffe://admin;Subject=\"\r\nx: y\u{e9}\\";
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let text = described(params);
        let subject = text.split_once(";Subject=\"").unwrap().1;
        let (subject, rest) = subject.split_once('"').unwrap();
        assert_eq!(rest, "");
        assert_eq!(subject, "CN=a%22%3BURI=spiffe://admin%3BSubject=%22%0D%0Ax: y%C3%A9%5C");
    }

    fn subject(names: &[(rcgen::DnType, &str)]) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let read = ClientCertificate::read(params.self_signed(&key).unwrap().der());
        read.principal.unwrap().subject().to_owned()
    }

    #[test]
    fn no_subject_can_pass_for_another() {
        use rcgen::DnType::{CommonName, OrganizationName};
        assert_eq!(
            subject(&[(CommonName, "Ann"), (OrganizationName, "Admins")]),
            "CN=Ann,O=Admins"
        );
        assert_eq!(subject(&[(CommonName, "Ann,O=Admins")]), r"CN=Ann\,O=Admins");
        assert_eq!(subject(&[(CommonName, " #\\\"+<>; ")]), r#"CN=\ #\\\"\+\<\>\;\ "#);
        assert_eq!(subject(&[(CommonName, "#x")]), r"CN=\#x");
        assert_eq!(subject(&[(CommonName, "J\u{fc}rg")]), "CN=J\u{fc}rg");
    }

    #[test]
    fn a_subject_without_name_is_known_by_an_alternative_one() {
        let mut params = rcgen::CertificateParams::new(["client.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let uri = "spiffe://example.org/client".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let key = rcgen::KeyPair::generate().unwrap();
        let read = ClientCertificate::read(params.self_signed(&key).unwrap().der());
        let principal = read.principal.unwrap();
        assert_eq!(principal.subject(), "spiffe://example.org/client");
        let hash = principal.field("source.certificate.sha256").unwrap();
        assert!(read.told.to_str().unwrap().starts_with(&format!("Hash={hash};")));
    }

    #[test]
    fn what_is_no_certificate_is_known_by_its_hash_alone() {
        let read = ClientCertificate::read(&CertificateDer::from(b"junk".to_vec()));
        let hash = read
            .principal
            .unwrap()
            .subject()
            .strip_prefix("sha256:")
            .unwrap()
            .to_owned();
        assert_eq!(read.told, format!("Hash={hash}"));
    }
}
