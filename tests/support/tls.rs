//! TLS clients as tests want them: what they trust, offer, show and keep. The connections are wires.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certs::{Authority, Leaf};
use super::wire::Wire;
use super::within;

/// Both versions, HTTP/1.1 by ALPN, unless told otherwise. Sessions are kept and resumed by clones of one client.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// Trusts that authority alone, and checks the name.
    pub fn of(authority: &Authority) -> Self {
        Self::speaking(authority, rustls::ALL_VERSIONS)
    }

    pub fn speaking(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authority.roots()), provider());
        Self::new(versions, verifier.build().expect("has roots"))
    }

    /// Takes any certificate, as `curl --insecure` does.
    pub fn careless() -> Self {
        Self::new(rustls::ALL_VERSIONS, Arc::new(Careless))
    }

    /// Verifies signatures of these schemes alone, and says so to the server.
    pub fn verifying(authority: &Authority, schemes: &[SignatureScheme]) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authority.roots()), provider());
        let verifier = verifier.build().expect("has roots");
        let schemes = schemes.to_vec();
        Self::new(rustls::ALL_VERSIONS, Arc::new(Limited { verifier, schemes }))
    }

    fn new(versions: &[&'static SupportedProtocolVersion], verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("are supported")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Self { config: config.into() }.offering(&["http/1.1"])
    }

    /// By ALPN.
    pub fn offering(self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.with(|config| config.alpn_protocols = protocols)
    }

    /// Shows that certificate to whoever asks.
    pub fn showing(self, leaf: &Leaf) -> Self {
        let (chain, key) = leaf.der();
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("a key");
        let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        self.with(|config| config.client_auth_cert_resolver = Arc::new(certified))
    }

    pub fn without_sni(self) -> Self {
        self.with(|config| config.enable_sni = false)
    }

    /// Sends requests with the first flight of a resumed session if the server said that it takes them.
    pub fn with_early_data(self) -> Self {
        self.with(|config| config.enable_early_data = true)
    }

    fn with(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// A connection to the server of that name.
    pub async fn connect(&self, to: SocketAddr, name: &str) -> Wire {
        match self.try_connect(to, name).await {
            Ok(wire) => wire,
            Err(error) => panic!("no handshake with {name}: {error}"),
        }
    }

    pub async fn try_connect(&self, to: SocketAddr, name: &str) -> io::Result<Wire> {
        let tcp = within("connect", TcpStream::connect(to)).await?;
        tcp.set_nodelay(true)?;
        Ok(Wire::tls(self.handshake(tcp, name).await?))
    }

    pub async fn handshake(&self, tcp: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        within("a handshake", TlsConnector::from(self.config()).connect(name, tcp)).await
    }

    /// The alert by which the server refuses this client: in TLS 1.3 a client has finished before its certificate is read.
    pub async fn refusal(&self, to: SocketAddr, name: &str) -> AlertDescription {
        let tcp = within("connect", TcpStream::connect(to)).await.expect("connects");
        let error = match self.handshake(tcp, name).await {
            Err(error) => error,
            Ok(mut stream) => match within("an alert", stream.read_u8()).await {
                Err(error) => error,
                Ok(_) => panic!("{name} is served"),
            },
        };
        match alert(&error) {
            Some(alert) => alert,
            None => panic!("no alert, but {error:?}"),
        }
    }
}

/// What the server said against it.
pub fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// The leaf that the server showed.
pub fn shown(wire: &Wire) -> &CertificateDer<'static> {
    let chain = wire.session().peer_certificates().expect("a finished handshake");
    chain.first().expect("a certificate")
}

impl Leaf {
    /// Whether it is the one that the server showed.
    pub fn was_shown(&self, wire: &Wire) -> bool {
        self.der().0.first() == Some(shown(wire))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct Careless;

#[derive(Debug)]
struct Limited {
    verifier: Arc<WebPkiServerVerifier>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Limited {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(certificate, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A server's side, of both versions.
pub fn acceptor(leaf: &Leaf) -> TlsAcceptor {
    let (chain, key) = leaf.der();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("are supported")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("belong together");
    TlsAcceptor::from(Arc::new(config))
}
