//! A new connection to the store: TCP, perhaps TLS, then who we are. When there is to be one is `link`'s.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::settings::Store;
use crate::tls;

/// All of it together.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A password is short, and an authority's certificates are a few.
const MAX_FILE: u64 = 1024 * 1024;
/// Commands on their way to the connection; whoever comes when it is full waits, within his deadline.
const QUEUE: usize = 1024;

/// Why there is no connection. It quotes no credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {0} in the folder of credentials: {1}")]
    Credentials(&'static str, io::Error),
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    #[error("cannot establish TLS: {0}")]
    Tls(io::Error),
    #[error("cannot authenticate or select the database: {0}")]
    Setup(RedisError),
    #[error("not connected within {TIMEOUT:?}")]
    TimedOut,
}

/// What moves the bytes of a connection; it ends when the connection does.
pub type Driver = AbortOnDropHandle<()>;

#[derive(Default)]
struct Credentials {
    username: Option<String>,
    password: Option<String>,
    authorities: Option<Vec<u8>>,
}

/// Reads the credentials, connects and authenticates, all of it within `TIMEOUT`. Fails as `Error` says.
pub async fn dial(store: &Store) -> Result<(MultiplexedConnection, Driver), Error> {
    timeout(TIMEOUT, connect(store)).await.unwrap_or(Err(Error::TimedOut))
}

async fn connect(store: &Store) -> Result<(MultiplexedConnection, Driver), Error> {
    let credentials = match store.credentials.clone() {
        Some(folder) => tokio::task::spawn_blocking(move || Credentials::read(&folder))
            .await
            .map_err(|panic| Error::Credentials("files", panic.into()))??,
        None => Credentials::default(),
    };
    let stream = TcpStream::connect((store.host.as_str(), store.port))
        .await
        .map_err(Error::Tcp)?;
    stream.set_nodelay(true).map_err(Error::Tcp)?;
    if store.tls {
        let config = client_config(credentials.authorities.as_deref()).map_err(Error::Tls)?;
        let name = ServerName::try_from(store.host.clone()).map_err(|name| Error::Tls(io::Error::other(name)))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(Error::Tls)?;
        introduce(store, &credentials, stream).await
    } else {
        introduce(store, &credentials, stream).await
    }
}

async fn introduce(
    store: &Store,
    credentials: &Credentials,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(MultiplexedConnection, Driver), Error> {
    let mut info = RedisConnectionInfo::default()
        .set_db(store.database.into())
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    if let Some(username) = &credentials.username {
        info = info.set_username(username);
    }
    if let Some(password) = &credentials.password {
        info = info.set_password(password);
    }
    // Each call has a deadline of its own.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = made.map_err(Error::Setup)?;
    Ok((connection, AbortOnDropHandle::new(tokio::spawn(driver))))
}

fn client_config(authorities: Option<&[u8]>) -> io::Result<Arc<ClientConfig>> {
    let roots = match authorities {
        None => tls::roots::system_roots(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(io::Error::other)?;
                roots.add(certificate).map_err(io::Error::other)?;
            }
            Arc::new(roots)
        }
    };
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Credentials {
    fn read(folder: &Path) -> Result<Self, Error> {
        let text = |name| {
            let bytes = file(folder, name)?;
            let text = bytes.map(String::from_utf8).transpose();
            let text = text.map_err(|_| Error::Credentials(name, io::Error::other("it is not UTF-8")))?;
            // A file that was made by an editor or `echo` ends with a line.
            let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
            Ok(text.filter(|text| !text.is_empty()))
        };
        Ok(Self {
            username: text("username")?,
            password: text("password")?,
            authorities: file(folder, "ca.crt")?,
        })
    }
}

fn file(folder: &Path, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
    let failed = |cause| Error::Credentials(name, cause);
    let file = match File::open(folder.join(name)) {
        Ok(file) => file,
        // A folder that is not there at all is a mistake; a key that is not in it is not needed.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && folder.is_dir() => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}
