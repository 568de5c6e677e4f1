//! The settings as the program uses them, and what makes them of the flags.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize, Serializer};

use super::{Flags, Invalid};
use crate::api;
use crate::snapshot::HostName;
use crate::telemetry::log;

/// What a running Postern is set to. Keys are hot (swapped with the next snapshot) or need a restart; see `flags`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub listen: Listen,
    pub source: Source,
    pub workers: NonZeroUsize,
    pub log: String,
    pub log_format: LogFormat,
    #[serde(serialize_with = "duration_text")]
    pub shutdown_delay: Duration,
    #[serde(serialize_with = "duration_text")]
    pub drain_deadline: Duration,
    pub publish_addresses: Vec<String>,
    pub lease_namespace: Option<String>,
    pub watch_namespaces: Vec<String>,
    pub routing: Routing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listen {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    Cluster { kubeconfig: Option<PathBuf> },
    Manifests(PathBuf),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    Json,
    Text,
}

/// The part of the settings that compile reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    pub class: Arc<str>,
    /// A plain name, no wildcard.
    pub apex_domain: Option<HostName>,
    /// By namespace. None: names are not granted, the oldest claim wins.
    pub hostname_grants: Option<BTreeMap<Arc<str>, Vec<HostName>>>,
    pub selectorless_services: bool,
    pub endpoints: EndpointRules,
}

/// Which addresses an endpoint may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRules {
    /// In a cluster loopback, link-local and unspecified addresses are refused; in a folder of manifests, the operator's
    /// own, they may be named.
    pub refuse_local: bool,
    /// Our own listeners on each of our interfaces: an endpoint there would be a loop. Known once they are bound.
    #[serde(skip)]
    pub own: BTreeSet<SocketAddr>,
}

impl Flags {
    /// What the flags mean, or which of them means nothing.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        log::parse(&self.log).map_err(|cause| invalid("log", cause))?;
        Ok(Settings {
            listen: Listen {
                http: bindable(self.http_address),
                https: bindable(self.https_address),
                admin: bindable(self.admin_address),
            },
            source: self.source()?,
            workers: self.workers,
            log: self.log.clone(),
            log_format: self.log_format,
            shutdown_delay: self.shutdown_delay.0,
            drain_deadline: self.drain_deadline.0,
            publish_addresses: addresses("publishAddress", &self.publish_address)?,
            lease_namespace: self.lease_namespace.clone(),
            watch_namespaces: no_empty("watchNamespaces", &self.watch_namespaces)?,
            routing: self.routing()?,
        })
    }

    fn source(&self) -> Result<Source, Invalid> {
        match (&self.manifests, &self.kubeconfig) {
            (Some(_), Some(_)) => Err(invalid(
                "manifests",
                "excludes kubeconfig: Postern reads a folder or a cluster, never both",
            )),
            (Some(folder), None) => Ok(Source::Manifests(folder.clone())),
            (None, kubeconfig) => Ok(Source::Cluster {
                kubeconfig: kubeconfig.clone(),
            }),
        }
    }

    fn routing(&self) -> Result<Routing, Invalid> {
        if self.class.is_empty() {
            return Err(invalid("class", "must not be empty"));
        }
        let apex_domain = self
            .apex_domain
            .as_deref()
            .map(|text| match host_name("apexDomain", text)? {
                HostName::Wildcard(_) => Err(invalid("apexDomain", "must be a plain domain, without \"*.\"")),
                plain => Ok(plain),
            })
            .transpose()?;
        let hostname_grants = self
            .hostname_grants
            .as_ref()
            .map(|grants| {
                let granted = |(namespace, names): (&String, &Vec<String>)| {
                    let key = format!("hostnameGrants.{namespace}");
                    let names = names
                        .iter()
                        .map(|name| host_name(&key, name))
                        .collect::<Result<_, _>>()?;
                    Ok((Arc::from(namespace.as_str()), names))
                };
                grants.iter().map(granted).collect::<Result<_, Invalid>>()
            })
            .transpose()?;
        Ok(Routing {
            class: self.class.as_str().into(),
            apex_domain,
            hostname_grants,
            selectorless_services: self.selectorless_services,
            endpoints: EndpointRules {
                refuse_local: self.manifests.is_none(),
                own: BTreeSet::new(),
            },
        })
    }
}

/// `[::]` is the default and a machine without IPv6 cannot bind it: there it means what it says as far as possible.
fn bindable(address: SocketAddr) -> SocketAddr {
    if address.ip() == Ipv6Addr::UNSPECIFIED && TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        (Ipv4Addr::UNSPECIFIED, address.port()).into()
    } else {
        address
    }
}

fn host_name(key: &str, text: &str) -> Result<HostName, Invalid> {
    HostName::from_str(text).map_err(|cause| invalid(key, cause))
}

/// As many and as long as a status can hold.
fn addresses(key: &str, items: &[String]) -> Result<Vec<String>, Invalid> {
    if items.len() > 16 || items.iter().any(|item| item.len() > 253) {
        return Err(invalid(key, "takes at most 16 addresses of at most 253 characters"));
    }
    no_empty(key, items)
}

fn no_empty(key: &str, items: &[String]) -> Result<Vec<String>, Invalid> {
    if items.iter().any(String::is_empty) {
        return Err(invalid(key, "holds an empty item"));
    }
    Ok(items.to_vec())
}

fn invalid(key: &str, cause: impl ToString) -> Invalid {
    Invalid::Key(key.to_owned(), cause.to_string())
}

fn duration_text<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    api::duration::Duration(*duration).serialize(to)
}
