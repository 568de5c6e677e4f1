//! Handshakes with clients: the certificate by SNI, the client-certificate rule of the host, the versions and protocols of
//! the moment. Each handshake looks at the configuration once; what it agreed on holds for its connection.

use std::sync::Arc;
use std::{fmt, io};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::agreed::{Agreed, Identity};
use super::client_certificate::ClientCertificate;
use crate::hostname::normalize;
use crate::live::LiveCell;
use crate::snapshot::{ClientTls, ClientTlsMode, Listener, ListenerKey, Snapshot, TlsVersion};
use crate::tls::{Certificate, provider};

/// What all handshakes share.
pub struct Server {
    live: Arc<LiveCell>,
    /// By oldest version and by whether HTTP/2 is offered, without client certificates.
    plain: [[Arc<ServerConfig>; 2]; 2],
    resolver: Arc<Resolver>,
}

/// A finished handshake.
pub struct Accepted {
    /// For the connection's bytes.
    pub stream: TlsStream<TcpStream>,
    /// What requests are held against.
    pub agreed: Agreed,
    /// Agreed on by ALPN.
    pub http2: bool,
    /// Whether the client brought a session along.
    pub resumed: bool,
}

/// Why no TLS client could be served.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    #[error("cannot create a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Finds the certificate for a hello.
struct Resolver {
    live: Arc<LiveCell>,
    /// For names that no certificate covers: clients are told apart from those of an app by its very name.
    self_signed: Arc<CertifiedKey>,
}

const SELF_SIGNED: &str = "no-certificate.postern.invalid";

impl Server {
    /// Makes the self-signed certificate and the configurations without client certificates. Fails if the cryptography
    /// does.
    pub fn new(live: Arc<LiveCell>) -> Result<Self, CannotStart> {
        let resolver = Arc::new(Resolver {
            live: live.clone(),
            self_signed: Arc::new(self_signed()?),
        });
        // Its keys change by themselves every six hours. Shared, so that a change of options ends no session.
        let tickets = aws_lc_rs::Ticketer::new()?;
        let config = |version, http2| -> Result<_, rustls::Error> {
            let mut config = config(resolver.clone(), None, version, http2)?;
            config.ticketer = tickets.clone();
            config.send_tls13_tickets = 2;
            Ok(Arc::new(config))
        };
        let both = |version| -> Result<_, rustls::Error> { Ok([config(version, false)?, config(version, true)?]) };
        Ok(Self {
            live,
            plain: [both(TlsVersion::V12)?, both(TlsVersion::V13)?],
            resolver,
        })
    }

    /// Takes as long as the client does: to be bounded by the caller.
    pub async fn accept(&self, stream: TcpStream, listener: ListenerKey) -> io::Result<Accepted> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let server_name = start.client_hello().server_name().map(|name| normalize(name).into());
        let (config, identity, client) = {
            let live = self.live.look();
            let nothing;
            let snapshot = match live.as_ref() {
                Some(live) => &live.snapshot,
                None => {
                    nothing = Snapshot::default();
                    &nothing
                }
            };
            let name = server_name.as_deref().unwrap_or_default();
            let hosts = snapshot.hosts(listener);
            let client = hosts.find(name).and_then(|host| host.tls.client.clone());
            let config = self.config(&snapshot.listener, client.as_deref());
            (
                config.map_err(io::Error::other)?,
                Identity::of(snapshot, listener, name),
                client,
            )
        };
        let stream = start.into_stream(config).await?;
        let session = stream.get_ref().1;
        let shown = session.peer_certificates().and_then(<[_]>::first);
        Ok(Accepted {
            http2: session.alpn_protocol() == Some(b"h2"),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            agreed: Agreed {
                server_name,
                identity,
                client_certificate: shown.map(ClientCertificate::read),
                client,
            },
            stream,
        })
    }

    fn config(&self, listener: &Listener, client: Option<&ClientTls>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let (version, http2) = (listener.tls_min_version, listener.http2);
        let (v13, h2) = (usize::from(version == TlsVersion::V13), usize::from(http2));
        let Some(client) = client else {
            return Ok(self.plain[v13][h2].clone());
        };
        let known = &client.configs.get()[v13][h2];
        if let Some(config) = known.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(config(self.resolver.clone(), Some(client), version, http2)?);
        Ok(known.get_or_init(|| config).clone())
    }
}

/// Without tickets: a session that is resumed shows no certificate again, and this host's rule may be a new one.
fn config(
    resolver: Arc<Resolver>,
    client: Option<&ClientTls>,
    oldest: TlsVersion,
    http2: bool,
) -> Result<ServerConfig, rustls::Error> {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = match oldest {
        TlsVersion::V12 => BOTH,
        TlsVersion::V13 => &BOTH[..1],
    };
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let roots = client.authorities.roots.clone();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match client.mode {
                ClientTlsMode::Required => verifier,
                ClientTlsMode::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    // Sessions live in tickets, with the clients: nothing to bound here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(config)
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live.look();
        let found = live.as_ref().and_then(|live| {
            let snapshot = &live.snapshot;
            match hello.server_name().map(normalize) {
                Some(name) => choose(snapshot.certificates(ListenerKey::Https, &name), &hello),
                // No name: whatever stands for the installation.
                None => choose(snapshot.default_certificates.iter(), &hello),
            }
        });
        Some(found.unwrap_or_else(|| self.self_signed.clone()))
    }
}

/// The first that the client can verify, of the smaller and faster kind if there is one; else the first of all, and the
/// handshake fails for the right reason.
fn choose<'a>(
    certificates: impl Iterator<Item = &'a Arc<Certificate>>,
    hello: &ClientHello<'_>,
) -> Option<Arc<CertifiedKey>> {
    let keys: Vec<_> = certificates.map(|certificate| &certificate.key).collect();
    let usable = |key: &&&Arc<CertifiedKey>| is_usable(key, hello);
    let fast = |key: &&&Arc<CertifiedKey>| key.key.algorithm() != SignatureAlgorithm::RSA;
    let chosen = keys
        .iter()
        .filter(usable)
        .find(fast)
        .or_else(|| keys.iter().find(usable));
    chosen.or_else(|| keys.first()).map(|key| Arc::clone(key))
}

fn is_usable(key: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
    let algorithm = key.key.algorithm();
    let suites = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let mut suites = suites.filter(|suite| suite.usable_for_signature_algorithm(algorithm));
    key.key.choose_scheme(hello.signature_schemes()).is_some()
        && suites.any(|suite| hello.cipher_suites().contains(&suite.suite()))
}

fn self_signed() -> Result<CertifiedKey, CannotStart> {
    let made = rcgen::generate_simple_self_signed([SELF_SIGNED.to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

// By hand: nothing of a key is printed.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
