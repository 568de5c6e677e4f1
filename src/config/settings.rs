//! The settings as the program uses them, and what makes them of the flags.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::error::{Invalid, invalid};
use super::flags::{AdminDebug, DrainMode, Flags, HttpMode};
use super::servers::{Acme, Traces};
use crate::api;
use crate::hostname::HostName;
use crate::limits::shared::Store;
use crate::object::ObjectKey;
use crate::snapshot::Listener;
use crate::telemetry::access::Mode as AccessMode;
use crate::telemetry::log::{self, LogFormat};
use crate::text::printed;

/// What a running Postern is set to. Keys are hot (swapped with the next snapshot) or need a restart; see `flags`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Where clients and probes connect to.
    pub listen: Listen,
    /// Where objects come from.
    pub source: Source,
    /// Threads of the data plane; one per core by default.
    pub workers: NonZeroUsize,
    /// Client connections at once. None: what the limit on descriptors allows.
    pub max_connections: Option<usize>,
    /// Bytes of memory. None: what the control group or the machine has.
    pub max_memory: Option<u64>,
    /// Who is served the debug pages of the admin port.
    pub admin_debug: AdminDebug,
    /// Levels by module, as `log::parse` reads them; `info` by default.
    pub log: String,
    /// JSON by default.
    pub log_format: LogFormat,
    /// Which requests get a line on stdout.
    pub access_log: AccessMode,
    /// After SIGTERM, how long connections are still accepted while /readyz says no.
    #[serde(serialize_with = "duration_text")]
    pub shutdown_delay: Duration,
    /// How long requests and sockets may take to end once nothing new is accepted.
    #[serde(serialize_with = "duration_text")]
    pub drain_deadline: Duration,
    /// Whether open sockets are first kept for `linger`.
    pub drain_mode: DrainMode,
    /// How long sockets stay open by `DrainMode::Linger`, unless all close earlier.
    #[serde(serialize_with = "duration_text")]
    pub linger: Duration,
    /// What `status.addresses` says; empty: nothing is published.
    pub publish_addresses: Vec<String>,
    /// The namespace of the Lease; None: the client's own.
    pub lease_namespace: Option<String>,
    /// Empty: all namespaces.
    pub watch_namespaces: Vec<String>,
    /// Where certificates are ordered, and as whom.
    pub acme: Acme,
    /// Where spans go, and how many.
    pub traces: Traces,
    /// Where limits are counted that all replicas share.
    pub store: Option<Store>,
    /// Where URLs of policies may lead besides.
    #[serde(serialize_with = "printed::texts")]
    pub allow_egress: Box<[IpNet]>,
    /// A private key in PEM; None: the principal is not signed.
    pub principal_signing_key: Option<PathBuf>,
    /// What compile goes by.
    pub routing: Routing,
    /// What each snapshot takes along for the data plane.
    pub listener: Arc<Listener>,
}

/// Addresses as they are set: one whose port is 0 gets its port when it is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// None: there is no plaintext port.
    pub http: Option<SocketAddr>,
    /// For TLS clients.
    pub https: SocketAddr,
    /// For probes, scrapes and debug pages.
    pub admin: SocketAddr,
}

/// Where objects are watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// An apiserver; without a kubeconfig the environment says which.
    #[serde(rename_all = "camelCase")]
    Cluster {
        kubeconfig: Option<PathBuf>,
        /// Where its state is saved. None: it is not.
        state_dir: Option<PathBuf>,
    },
    /// A folder, and all folders in it. Unless it is lenient, all that is there at the start must be understood.
    Manifests { folder: PathBuf, lenient: bool },
}

/// The part of the settings that compile reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// Deployments with another className are left to others.
    pub class: Arc<str>,
    /// A plain name, no wildcard.
    pub apex_domain: Option<HostName>,
    /// By namespace. None: names are not granted, the oldest claim wins.
    pub hostname_grants: Option<BTreeMap<Arc<str>, Vec<HostName>>>,
    /// Whether Services without a selector, whose endpoints anybody may write, are served.
    pub selectorless_services: bool,
    /// Whether limits may have the scope Shared.
    pub shared_store: bool,
    /// For hostnames without a certificate of their own: the first that covers a name is used; empty: a self-signed one
    /// is.
    pub default_tls_secrets: Box<[ObjectKey]>,
    /// A Deployment before which no SentinelPolicy is in force is not served.
    pub require_policy: bool,
    /// Where an endpoint would lead into this process or machine.
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

/// Below it not even an idle process fits.
const MIN_MEMORY: u64 = 64 << 20;
// A limit that is off, or so long that it is, would leave connections open for nobody.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

impl Flags {
    /// What the flags mean, or which of them means nothing.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        log::parse(&self.log).map_err(|cause| invalid("log", cause))?;
        let http = self.http.unwrap_or(match self.manifests {
            Some(_) => HttpMode::Serve,
            None => HttpMode::Redirect,
        });
        Ok(Settings {
            listen: Listen {
                http: (http != HttpMode::Off).then_some(self.http_address),
                https: self.https_address,
                admin: self.admin_address,
            },
            source: self.source()?,
            workers: self.workers,
            max_connections: self.max_connections.map(NonZeroUsize::get),
            max_memory: self.max_memory.as_deref().map(bytes).transpose()?,
            admin_debug: self.admin_debug,
            log: self.log.clone(),
            log_format: self.log_format,
            access_log: self.access_log,
            shutdown_delay: self.shutdown_delay.0,
            drain_deadline: self.drain_deadline.0,
            drain_mode: self.drain_mode,
            linger: self.linger.0,
            publish_addresses: addresses("publishAddress", &self.publish_address)?,
            lease_namespace: self.lease_namespace.clone(),
            watch_namespaces: no_empty("watchNamespaces", &self.watch_namespaces)?,
            acme: self.acme()?,
            traces: self.traces()?,
            store: self.store()?,
            allow_egress: networks("allowEgress", &self.allow_egress)?,
            principal_signing_key: self.principal_signing_key.clone(),
            routing: self.routing()?,
            listener: Arc::new(self.listener(http == HttpMode::Redirect)?),
        })
    }

    fn source(&self) -> Result<Source, Invalid> {
        match (&self.manifests, &self.kubeconfig) {
            (Some(_), Some(_)) => Err(invalid(
                "manifests",
                "cannot be combined with kubeconfig: Postern reads either a folder or a cluster",
            )),
            (Some(_), None) if self.state_dir.is_some() => Err(invalid(
                "stateDir",
                "cannot be combined with manifests: the folder itself is there after a restart",
            )),
            (None, _) if self.lenient => Err(invalid("lenient", "needs manifests: in a cluster it means nothing")),
            (Some(folder), None) => Ok(Source::Manifests {
                folder: folder.clone(),
                lenient: self.lenient,
            }),
            (None, kubeconfig) => Ok(Source::Cluster {
                kubeconfig: kubeconfig.clone(),
                state_dir: self.state_dir.clone(),
            }),
        }
    }

    fn listener(&self, redirect: bool) -> Result<Listener, Invalid> {
        let bounded = |key, limit: api::duration::Duration| match limit.0 {
            time if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&time) => Ok(time),
            _ => Err(invalid(key, "must be between 1s and 1h")),
        };
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(invalid(
                "proxyProtocol",
                "needs trustedProxies, because only trusted proxies may send PROXY headers",
            ));
        }
        if !(1..=1000).contains(&self.http2_max_streams) {
            return Err(invalid("http2MaxStreams", "must be between 1 and 1000"));
        }
        Ok(Listener {
            trusted_proxies: networks("trustedProxies", &self.trusted_proxies)?,
            proxy_protocol: self.proxy_protocol,
            redirect,
            http2: self.http2,
            websocket_http2: self.websocket_http2,
            hsts: self
                .hsts
                .as_deref()
                .map(|text| hsts(text).map_err(|cause| invalid("hsts", cause)))
                .transpose()?,
            forwarded: self.forwarded,
            tls_min_version: self.tls_min_version,
            tls_handshake_timeout: bounded("tlsHandshakeTimeout", self.tls_handshake_timeout)?,
            keep_alive_timeout: bounded("keepAliveTimeout", self.keep_alive_timeout)?,
            http2_max_streams: self.http2_max_streams,
        })
    }

    fn default_tls_secrets(&self) -> Result<Box<[ObjectKey]>, Invalid> {
        let key = |text: &String| match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ObjectKey::new(namespace, name))
            }
            _ => Err(invalid(
                "defaultTlsSecret",
                format!("{text:?} is not <namespace>/<name>"),
            )),
        };
        self.default_tls_secret.iter().map(key).collect()
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
            shared_store: self.redis_url.is_some(),
            default_tls_secrets: self.default_tls_secrets()?,
            require_policy: self.require_policy,
            endpoints: EndpointRules {
                refuse_local: self.manifests.is_none(),
                own: BTreeSet::new(),
            },
        })
    }
}

/// max-age and what may stand beside it (RFC 6797 section 6.1), each once.
fn hsts(text: &str) -> Result<HeaderValue, &'static str> {
    let mut max_age = 0;
    let mut flags = Vec::new();
    for directive in text.split(';').map(|part| part.trim().to_ascii_lowercase()) {
        match directive.strip_prefix("max-age=") {
            Some(seconds) if seconds.len() <= 10 && seconds.parse::<u64>().is_ok() => max_age += 1,
            None if ["includesubdomains", "preload"].contains(&&*directive) && !flags.contains(&directive) => {
                flags.push(directive);
            }
            _ => return Err("is not a value such as \"max-age=31536000; includeSubDomains\""),
        }
    }
    match HeaderValue::from_str(text.trim()) {
        Ok(value) if max_age == 1 => Ok(value),
        _ => Err("needs one max-age=<seconds>"),
    }
}

/// A number of bytes, or of Ki, Mi or Gi of them, as Kubernetes writes quantities of memory.
fn bytes(text: &str) -> Result<u64, Invalid> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("", 0)];
    let read = units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    match read {
        Some(bytes) if bytes >= MIN_MEMORY => Ok(bytes),
        Some(_) => Err(invalid("maxMemory", "must be at least 64Mi")),
        None => Err(invalid(
            "maxMemory",
            format!("{text:?} is no quantity such as \"512Mi\""),
        )),
    }
}

fn host_name(key: &str, text: &str) -> Result<HostName, Invalid> {
    HostName::from_str(text).map_err(|cause| invalid(key, cause))
}

/// An address is a network of one.
fn networks(key: &str, items: &[String]) -> Result<Box<[IpNet]>, Invalid> {
    let network = |text: &String| {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| invalid(key, format!("{text:?} is neither a network nor an address")))
    };
    items.iter().map(network).collect()
}

/// As many and as long as a status can hold.
fn addresses(key: &str, items: &[String]) -> Result<Vec<String>, Invalid> {
    if items.len() > 16 || items.iter().any(|item| item.len() > 253) {
        return Err(invalid(key, "allows at most 16 addresses of at most 253 characters"));
    }
    no_empty(key, items)
}

fn no_empty(key: &str, items: &[String]) -> Result<Vec<String>, Invalid> {
    if items.iter().any(String::is_empty) {
        return Err(invalid(key, "contains an empty item"));
    }
    Ok(items.to_vec())
}

fn duration_text<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    api::duration::Duration(*duration).serialize(to)
}
