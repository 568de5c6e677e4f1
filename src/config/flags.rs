//! What an operator may set, as it is written: a flag of `run`, `POSTERN_...` in the environment, a camelCase key of the
//! settings file. One struct is all three, so that none can lack a key, and it holds every default. Its meaning is
//! worked out in `settings`.

#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "--help prints these comments as they are"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ArgAction;
use serde::{Deserialize, Serialize};

use super::{AccessMode, DrainMode, HttpMode, LogFormat, TlsVersion};
use crate::api::duration::Duration;
use crate::snapshot::Listener;

/// The arguments of `run`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Settings file (YAML). Its keys are the flags below in camelCase, and `hostnameGrants`; it wins over flags and
    /// environment. It is watched: hot keys apply at once, a broken edit is logged and changes nothing
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub flags: Flags,
}

/// All keys. The heading under which `--help` lists one says whether it is hot; `HOT` is what the program goes by.
#[derive(clap::Args, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flags {
    /// Where clients connect in plaintext. `[::]` is every address of both families, and 0.0.0.0 where there is no
    /// IPv6; port 0 picks a free one
    #[arg(long, env = "POSTERN_HTTP_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().http_address, help_heading = NEEDS_RESTART)]
    pub http_address: SocketAddr,

    /// Where clients connect with TLS
    #[arg(long, env = "POSTERN_HTTPS_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().https_address, help_heading = NEEDS_RESTART)]
    pub https_address: SocketAddr,

    /// What the plaintext port does: send clients to https, serve them, or not be there at all [default: redirect; serve
    /// with --manifests]
    #[arg(long, env = "POSTERN_HTTP", value_name = "MODE", value_enum, help_heading = NEEDS_RESTART)]
    pub http: Option<HttpMode>,

    /// Health and metrics; debug pages for peers on loopback
    #[arg(long, env = "POSTERN_ADMIN_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().admin_address, help_heading = NEEDS_RESTART)]
    pub admin_address: SocketAddr,

    /// A folder of manifests instead of a cluster; watched
    #[arg(long, env = "POSTERN_MANIFESTS", value_name = "DIR", help_heading = NEEDS_RESTART)]
    pub manifests: Option<PathBuf>,

    /// Serve the Deployments of this className and no others
    #[arg(long, env = "POSTERN_CLASS", value_name = "NAME", default_value_t = Self::default().class, help_heading = NEEDS_RESTART)]
    pub class: String,

    /// Namespaces to watch, separated by commas [default: all]
    #[arg(long, env = "POSTERN_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',', help_heading = NEEDS_RESTART)]
    pub watch_namespaces: Vec<String>,

    /// Threads of the data plane [default: one per core]
    #[arg(long, env = "POSTERN_WORKERS", value_name = "COUNT", default_value_t = Self::default().workers, hide_default_value = true, help_heading = NEEDS_RESTART)]
    pub workers: NonZeroUsize,

    /// How log lines look
    #[arg(long, env = "POSTERN_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = Self::default().log_format, help_heading = NEEDS_RESTART)]
    pub log_format: LogFormat,

    /// A private key (PEM, PKCS #8; Ed25519 or P-256): apps get the principal as a signed JWT, too, in
    /// X-Postern-Principal-Token [default: none]
    #[arg(long, env = "POSTERN_PRINCIPAL_SIGNING_KEY", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub principal_signing_key: Option<PathBuf>,

    /// How to reach the apiserver [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, env = "POSTERN_KUBECONFIG", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace of the leader's Lease [default: the pod's own, or the kubeconfig's]
    #[arg(long, env = "POSTERN_LEASE_NAMESPACE", value_name = "NAME", help_heading = NEEDS_RESTART)]
    pub lease_namespace: Option<String>,

    /// Where `tls[].acme` orders certificates: the URL of an ACME server's directory. Ordering there agrees to its terms;
    /// it looks for its challenges on port 80 of the hostnames, which must lead to the plaintext port
    #[arg(long, env = "POSTERN_ACME_DIRECTORY", value_name = "URL", default_value_t = Self::default().acme_directory, help_heading = NEEDS_RESTART)]
    pub acme_directory: String,

    /// Whom the ACME server may write to about the certificates [default: nobody]
    #[arg(long, env = "POSTERN_ACME_EMAIL", value_name = "ADDRESS", help_heading = NEEDS_RESTART)]
    pub acme_email: Option<String>,

    /// The one authority (PEM) that may vouch for the ACME server [default: the system's]
    #[arg(long, env = "POSTERN_ACME_CA", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub acme_ca: Option<PathBuf>,

    /// Where limits of the scope Shared are counted: redis://HOST[:PORT][/DATABASE], or rediss:// for TLS. Redis 5 or later
    /// [default: none; policies that need it are refused]
    #[arg(long, env = "POSTERN_REDIS_URL", value_name = "URL", help_heading = NEEDS_RESTART)]
    pub redis_url: Option<String>,

    /// A folder (a mounted Secret) with the files username, password and ca.crt, as far as Redis asks for them; read again
    /// for each new connection
    #[arg(long, env = "POSTERN_REDIS_CREDENTIALS", value_name = "DIR", help_heading = NEEDS_RESTART)]
    pub redis_credentials: Option<PathBuf>,

    /// Where spans of requests are sent: the base URL of a collector that takes OTLP over HTTP, such as
    /// http://collector.monitoring:4318 [default: none; what clients say of traces passes as it is]
    #[arg(long, env = "POSTERN_OTLP_ENDPOINT", value_name = "URL", help_heading = NEEDS_RESTART)]
    pub otlp_endpoint: Option<String>,

    /// Assign each Deployment the hostname <name>-<namespace>.DOMAIN [default: none]
    #[arg(long, env = "POSTERN_APEX_DOMAIN", value_name = "DOMAIN", help_heading = APPLIES_AT_ONCE)]
    pub apex_domain: Option<String>,

    /// Whether Services without a selector, whose endpoints anyone may write, are served
    #[arg(long, env = "POSTERN_SELECTORLESS_SERVICES", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().selectorless_services, help_heading = APPLIES_AT_ONCE)]
    pub selectorless_services: bool,

    /// Whether a Deployment is answered 503 policy_invalid while no SentinelPolicy is in force before it
    #[arg(long, env = "POSTERN_REQUIRE_POLICY", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().require_policy, help_heading = APPLIES_AT_ONCE)]
    pub require_policy: bool,

    /// How long to keep serving new connections after SIGTERM, unready (a duration: "5s", "1m30s", "250ms")
    #[arg(long, env = "POSTERN_SHUTDOWN_DELAY", value_name = "TIME", default_value_t = Self::default().shutdown_delay, help_heading = APPLIES_AT_ONCE)]
    pub shutdown_delay: Duration,

    /// How long requests and sockets may take to end after that, or after --linger (a duration)
    #[arg(long, env = "POSTERN_DRAIN_DEADLINE", value_name = "TIME", default_value_t = Self::default().drain_deadline, help_heading = APPLIES_AT_ONCE)]
    pub drain_deadline: Duration,

    /// What becomes of open sockets after the delay: they have until the deadline, or first as long as --linger
    #[arg(long, env = "POSTERN_DRAIN_MODE", value_name = "MODE", value_enum, default_value_t = Self::default().drain_mode, help_heading = APPLIES_AT_ONCE)]
    pub drain_mode: DrainMode,

    /// How long sockets are kept under --drain-mode linger, unless all leave before (a duration)
    #[arg(long, env = "POSTERN_LINGER", value_name = "TIME", default_value_t = Self::default().linger, help_heading = APPLIES_AT_ONCE)]
    pub linger: Duration,

    /// Log level (error, warn, info, debug, trace, off), or levels by part: "info,postern::proxy=debug"
    #[arg(long, env = "POSTERN_LOG", value_name = "LEVELS", default_value_t = Self::default().log, help_heading = APPLIES_AT_ONCE)]
    pub log: String,

    /// Which requests the access log tells of, on stdout: all, those that a `logging` rule is for, or none
    #[arg(long, env = "POSTERN_ACCESS_LOG", value_name = "MODE", value_enum, default_value_t = Self::default().access_log, help_heading = APPLIES_AT_ONCE)]
    pub access_log: AccessMode,

    /// Of the traces that begin at Postern, the part that is followed, 0 to 1. Of those that clients began they have decided
    #[arg(long, env = "POSTERN_OTLP_SAMPLE", value_name = "RATIO", default_value_t = Self::default().otlp_sample, help_heading = APPLIES_AT_ONCE)]
    pub otlp_sample: f64,

    /// IP addresses or hostnames for `status.addresses`, separated by commas [default: none]
    #[arg(long, env = "POSTERN_PUBLISH_ADDRESS", value_name = "ADDRESSES", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub publish_address: Vec<String>,

    /// Certificates for hostnames that have none of their own, as <namespace>/<name> of kubernetes.io/tls Secrets,
    /// separated by commas; the first that covers a hostname serves it [default: none, and a self-signed one]
    #[arg(long, env = "POSTERN_DEFAULT_TLS_SECRET", value_name = "SECRETS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub default_tls_secret: Vec<String>,

    /// The oldest version of TLS for clients: 1.2 or 1.3
    #[arg(long, env = "POSTERN_TLS_MIN_VERSION", value_name = "VERSION", value_enum, default_value_t = Self::default().tls_min_version, help_heading = APPLIES_AT_ONCE)]
    pub tls_min_version: TlsVersion,

    /// How long a client's TLS handshake may take, a PROXY header before it included (a duration)
    #[arg(long, env = "POSTERN_TLS_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value_t = Self::default().tls_handshake_timeout, help_heading = APPLIES_AT_ONCE)]
    pub tls_handshake_timeout: Duration,

    /// How long a client's connection stays open without a request (a duration)
    #[arg(long, env = "POSTERN_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value_t = Self::default().keep_alive_timeout, help_heading = APPLIES_AT_ONCE)]
    pub keep_alive_timeout: Duration,

    /// Whether clients may speak HTTP/2: by ALPN over TLS, by prior knowledge in plaintext
    #[arg(long, env = "POSTERN_HTTP2", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().http2, help_heading = APPLIES_AT_ONCE)]
    pub http2: bool,

    /// Open streams of one HTTP/2 connection, 1 to 1000; requests past it wait at the client
    #[arg(long, env = "POSTERN_HTTP2_MAX_STREAMS", value_name = "COUNT", default_value_t = Self::default().http2_max_streams, help_heading = APPLIES_AT_ONCE)]
    pub http2_max_streams: u32,

    /// Whether WebSockets over HTTP/2 (RFC 8441) are offered; where not, browsers open them over HTTP/1.1
    #[arg(long, env = "POSTERN_WEBSOCKET_HTTP2", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().websocket_http2, help_heading = APPLIES_AT_ONCE)]
    pub websocket_http2: bool,

    /// Networks of the proxies in front of Postern, separated by commas: their X-Forwarded-* and X-Request-Id are
    /// believed [default: none]
    #[arg(long, env = "POSTERN_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub trusted_proxies: Vec<String>,

    /// Whether connections of trusted proxies begin with a PROXY header, version 1 or 2, on both ports
    #[arg(long, env = "POSTERN_PROXY_PROTOCOL", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().proxy_protocol, help_heading = APPLIES_AT_ONCE)]
    pub proxy_protocol: bool,

    /// Strict-Transport-Security on every answer over TLS, such as "max-age=31536000; includeSubDomains" [default: none]
    #[arg(long, env = "POSTERN_HSTS", value_name = "VALUE", help_heading = APPLIES_AT_ONCE)]
    pub hsts: Option<String>,

    /// Whether apps get Forwarded (RFC 7239) beside X-Forwarded-*
    #[arg(long, env = "POSTERN_FORWARDED", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().forwarded, help_heading = APPLIES_AT_ONCE)]
    pub forwarded: bool,

    /// Networks that URLs of policies (keys, decisions) may lead to although they are loopback, link-local or a cloud's
    /// metadata service, separated by commas; a listener of Postern itself only where its address is listed [default: none]
    #[arg(long, env = "POSTERN_ALLOW_EGRESS", value_name = "CIDRS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub allow_egress: Vec<String>,

    /// Which namespace may use which hostnames; in the file alone. None: whoever claims a name first has it.
    #[arg(skip)]
    pub hostname_grants: Option<BTreeMap<String, Vec<String>>>,
}

const NEEDS_RESTART: &str = "Options (need a restart to change)";
const APPLIES_AT_ONCE: &str = "Hot options (an edit of the settings file applies at once)";

/// The keys that apply without a restart.
pub const HOT: [&str; 24] = [
    "accessLog",
    "allowEgress",
    "apexDomain",
    "defaultTlsSecret",
    "drainDeadline",
    "drainMode",
    "forwarded",
    "hostnameGrants",
    "hsts",
    "http2",
    "http2MaxStreams",
    "keepAliveTimeout",
    "linger",
    "log",
    "otlpSample",
    "proxyProtocol",
    "publishAddress",
    "requirePolicy",
    "selectorlessServices",
    "shutdownDelay",
    "tlsHandshakeTimeout",
    "tlsMinVersion",
    "trustedProxies",
    "websocketHttp2",
];

impl Default for Flags {
    fn default() -> Self {
        let everywhere = |port| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let listener = Listener::default();
        let seconds = |count| Duration(std::time::Duration::from_secs(count));
        Self {
            http_address: everywhere(8080),
            https_address: everywhere(8443),
            admin_address: everywhere(9090),
            manifests: None,
            class: "postern".to_owned(),
            watch_namespaces: Vec::new(),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            log_format: LogFormat::Json,
            kubeconfig: None,
            lease_namespace: None,
            principal_signing_key: None,
            acme_directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            acme_email: None,
            acme_ca: None,
            redis_url: None,
            redis_credentials: None,
            otlp_endpoint: None,
            otlp_sample: 1.0,
            apex_domain: None,
            selectorless_services: true,
            require_policy: false,
            shutdown_delay: seconds(5),
            drain_deadline: seconds(45),
            drain_mode: DrainMode::Close,
            linger: seconds(4 * 3600),
            log: "info".to_owned(),
            access_log: AccessMode::default(),
            publish_address: Vec::new(),
            http: None,
            default_tls_secret: Vec::new(),
            tls_min_version: listener.tls_min_version,
            tls_handshake_timeout: Duration(listener.tls_handshake_timeout),
            keep_alive_timeout: Duration(listener.keep_alive_timeout),
            http2: listener.http2,
            http2_max_streams: listener.http2_max_streams,
            websocket_http2: listener.websocket_http2,
            trusted_proxies: Vec::new(),
            proxy_protocol: listener.proxy_protocol,
            hsts: None,
            forwarded: listener.forwarded,
            allow_egress: Vec::new(),
            hostname_grants: None,
        }
    }
}
