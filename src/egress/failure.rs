//! Why a server that a policy or the operator names gave no answer.

use std::net::SocketAddr;

use hyper_util::client::legacy;

/// Why there is no answer. Told in logs and statuses, never to clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the URL is neither http:// nor https://")]
    Url,
    #[error("the hostname cannot be resolved, or not in time")]
    Unresolved,
    #[error(
        "the hostname resolves to {0}, which is not public or is Postern's own: list it in --allow-egress to permit it"
    )]
    Refused(SocketAddr),
    #[error("no descriptor is left for a connection of this namespace")]
    NoDescriptors,
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Failure {
    /// The connector's own word for it, where it was the connector's.
    pub fn of(error: legacy::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut last = String::new();
        while let Some(error) = cause {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return failure.clone();
            }
            last = error.to_string();
            cause = error.source();
        }
        Self::Broken(last)
    }
}
