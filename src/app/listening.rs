//! The sockets that listen, bound before anything else starts.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;

use crate::config::Listen;
use crate::net::socket;

pub struct Listening {
    pub http: Option<TcpListener>,
    pub https: TcpListener,
    pub admin: TcpListener,
    pub addresses: Addresses,
}

/// What was bound: port 0 picks a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub http: Option<SocketAddr>,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

impl Listening {
    pub fn bind(listen: &Listen) -> anyhow::Result<Self> {
        let http = listen.http.map(|address| bind("http", address)).transpose()?;
        let https = bind("https", listen.https)?;
        let admin = bind("admin", listen.admin)?;
        let addresses = Addresses {
            http: http.as_ref().map(TcpListener::local_addr).transpose()?,
            https: https.local_addr()?,
            admin: admin.local_addr()?,
        };
        Ok(Self {
            http,
            https,
            admin,
            addresses,
        })
    }
}

impl Addresses {
    pub(super) fn all(self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let http = self.http.map(|address| ("http", address));
        http.into_iter().chain([("https", self.https), ("admin", self.admin)])
    }
}

fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    socket::bind(address).with_context(|| format!("cannot listen on {address} ({name})"))
}
