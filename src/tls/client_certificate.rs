//! A client's certificate as X-Forwarded-Client-Cert tells of it, in the form that Envoy made common:
//! `Hash=<SHA-256 of the certificate>;Subject="<distinguished name>";URI=<name>;DNS=<name>`.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Alternative names that are told of: an app asks for one.
const MAX_NAMES: usize = 8;
/// Of a distinguished name or an alternative one.
const MAX_TEXT: usize = 1024;

/// What the verified `certificate` says, in printable ASCII: nothing in it can end a field or a header.
pub fn describe(certificate: &CertificateDer<'_>) -> HeaderValue {
    let mut text = String::from("Hash=");
    for byte in digest(&SHA256, certificate).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
        text.push_str(";Subject=\"");
        // Within its quotes a comma is one.
        push_printable(&mut text, &parsed.subject().to_string(), b";%\"\\");
        text.push('"');
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let named = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(("URI", *uri)),
            GeneralName::DNSName(name) => Some(("DNS", *name)),
            _ => None,
        });
        for (kind, name) in named.take(MAX_NAMES) {
            let _ = write!(text, ";{kind}=");
            push_printable(&mut text, name, b";,%\"\\");
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Hash="))
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
        describe(certificate.der()).to_str().unwrap().to_owned()
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
}
