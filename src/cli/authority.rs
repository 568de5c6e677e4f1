//! The certificate authority of `try`: made for this run, for this machine's own name, and gone with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// An authority whose private key is never written anywhere.
pub struct Authority {
    /// What clients are to trust.
    pub pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a key and a self-signed certificate for it. Fails only where the system gives no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Postern on this machine");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params
            .self_signed(&key)
            .context("cannot make a certificate authority")?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// A kubernetes.io/tls Secret, as cert-manager or `kubectl create secret tls` makes one.
    pub fn secret(&self, namespace: &str, name: &str, hosts: &[&str]) -> anyhow::Result<String> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).context("cannot name the hosts")?;
        let mut params = for_a_while(params);
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("cannot make a certificate")?;
        let [certificate, key] = [certificate.pem(), key.serialize_pem()].map(|pem| BASE64_STANDARD.encode(pem));
        Ok(format!(
            "\
# The certificate of these hostnames. In a cluster, cert-manager, ACME or you keep it up to date.
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
type: kubernetes.io/tls
data:
  tls.crt: {certificate}
  tls.key: {key}
"
        ))
    }

    /// A client that trusts this authority and no other.
    pub fn client(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// From yesterday, as clocks differ, for as long as nobody tries anything.
fn for_a_while(mut params: CertificateParams) -> CertificateParams {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (month, day) = (today.month().unsigned_abs(), today.day().unsigned_abs());
    let today = rcgen::date_time_ymd(i32::from(today.year()), month, day);
    params.not_before = today - DAY;
    params.not_after = today + 30 * DAY;
    params
}
