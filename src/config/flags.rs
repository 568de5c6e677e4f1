//! The settings as an operator writes them: a flag of `run`, `POSTERN_...` in the environment, or a camelCase key of
//! the settings file. One struct serves all three, so that none can lack a key, and it holds every default. `settings`
//! validates them.

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

use clap::{ArgAction, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::api::duration::Duration;
use crate::snapshot::{Listener, TlsVersion};
use crate::telemetry::access::Mode as AccessMode;
use crate::telemetry::log::LogFormat;

/// The arguments of `run`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Settings file (YAML). Its keys are the flags below in camelCase, plus `hostnameGrants`; they override flags and
    /// environment variables. The file is watched: hot keys apply at once, an invalid edit is logged and changes
    /// nothing
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// All others; the file's keys go before them.
    #[command(flatten)]
    pub flags: Flags,
}

/// All keys. The heading in `--help` says whether a key is hot; the program itself uses `HOT`, and a test keeps the two
/// equal.
#[derive(clap::Args, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flags {
    /// Address for plaintext clients. `[::]` listens on all IPv6 and IPv4 addresses, and becomes 0.0.0.0 where there is
    /// no IPv6; port 0 picks a free port
    #[arg(long, env = "POSTERN_HTTP_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().http_address, help_heading = NEEDS_RESTART)]
    pub http_address: SocketAddr,

    /// Address for TLS clients
    #[arg(long, env = "POSTERN_HTTPS_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().https_address, help_heading = NEEDS_RESTART)]
    pub https_address: SocketAddr,

    /// What the plaintext port does: redirect clients to https, serve them, or stay closed [default: redirect; serve
    /// with --manifests]
    #[arg(long, env = "POSTERN_HTTP", value_name = "MODE", value_enum, help_heading = NEEDS_RESTART)]
    pub http: Option<HttpMode>,

    /// Address for health checks and metrics, and for debug pages, which are served to loopback clients only
    #[arg(long, env = "POSTERN_ADMIN_ADDRESS", value_name = "ADDRESS", default_value_t = Self::default().admin_address, help_heading = NEEDS_RESTART)]
    pub admin_address: SocketAddr,

    /// Folder of manifests to serve instead of a cluster; it is watched
    #[arg(long, env = "POSTERN_MANIFESTS", value_name = "DIR", help_heading = NEEDS_RESTART)]
    pub manifests: Option<PathBuf>,

    /// Whether to start although a file in --manifests cannot be read or understood, without what it says: an app may be
    /// served without its policy. While Postern runs, the last good version of a broken file stays in force anyway
    #[arg(long, env = "POSTERN_LENIENT", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value_t = Self::default().lenient, help_heading = NEEDS_RESTART)]
    pub lenient: bool,

    /// Serve only the Deployments with this className
    #[arg(long, env = "POSTERN_CLASS", value_name = "NAME", default_value_t = Self::default().class, help_heading = NEEDS_RESTART)]
    pub class: String,

    /// Namespaces to watch, separated by commas [default: all]
    #[arg(long, env = "POSTERN_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',', help_heading = NEEDS_RESTART)]
    pub watch_namespaces: Vec<String>,

    /// Number of data-plane threads [default: one per core]
    #[arg(long, env = "POSTERN_WORKERS", value_name = "COUNT", default_value_t = Self::default().workers, hide_default_value = true, help_heading = NEEDS_RESTART)]
    pub workers: NonZeroUsize,

    /// Maximum number of client connections, WebSockets included. Past it idle connections close, the longest idle first;
    /// without any, new ones are refused. An address that is no trusted proxy has a share [default: half of what the
    /// limit on descriptors leaves]
    #[arg(long, env = "POSTERN_MAX_CONNECTIONS", value_name = "COUNT", help_heading = NEEDS_RESTART)]
    pub max_connections: Option<NonZeroUsize>,

    /// Memory that the process may use, such as "512Mi". Near it, clients that take nothing of their answers are
    /// disconnected, and new requests are answered 503 overloaded [default: the control group's limit, or the machine's
    /// memory]
    #[arg(long, env = "POSTERN_MAX_MEMORY", value_name = "BYTES", help_heading = NEEDS_RESTART)]
    pub max_memory: Option<String>,

    /// Format of the log lines
    #[arg(long, env = "POSTERN_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = Self::default().log_format, help_heading = NEEDS_RESTART)]
    pub log_format: LogFormat,

    /// Private key (PEM, PKCS #8; Ed25519 or P-256) that signs the principal: apps then also receive it as a JWT in
    /// X-Postern-Principal-Token [default: none]
    #[arg(long, env = "POSTERN_PRINCIPAL_SIGNING_KEY", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub principal_signing_key: Option<PathBuf>,

    /// Kubeconfig for the apiserver [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, env = "POSTERN_KUBECONFIG", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub kubeconfig: Option<PathBuf>,

    /// Folder in which the last state of the cluster is saved, keys and passwords included, readable for this user alone. A
    /// Postern that starts while the apiserver is away serves it. Not with --manifests [default: none; no state is saved]
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIR", help_heading = NEEDS_RESTART)]
    pub state_dir: Option<PathBuf>,

    /// Namespace of the leader election's Lease [default: the pod's own, or the kubeconfig's]
    #[arg(long, env = "POSTERN_LEASE_NAMESPACE", value_name = "NAME", help_heading = NEEDS_RESTART)]
    pub lease_namespace: Option<String>,

    /// Directory URL of the ACME server that issues the certificates of `tls[].acme`. Ordering accepts its terms of
    /// service. It validates hostnames on their port 80, which must lead to the plaintext port
    #[arg(long, env = "POSTERN_ACME_DIRECTORY", value_name = "URL", default_value_t = Self::default().acme_directory, help_heading = NEEDS_RESTART)]
    pub acme_directory: String,

    /// Contact address that the ACME server may use for notices about the certificates [default: none]
    #[arg(long, env = "POSTERN_ACME_EMAIL", value_name = "ADDRESS", help_heading = NEEDS_RESTART)]
    pub acme_email: Option<String>,

    /// The only certificate authority (PEM) that is trusted for the ACME server [default: the system's]
    #[arg(long, env = "POSTERN_ACME_CA", value_name = "FILE", help_heading = NEEDS_RESTART)]
    pub acme_ca: Option<PathBuf>,

    /// Redis (5 or later) that counts the limits with scope Shared: redis://HOST[:PORT][/DATABASE], or rediss:// for
    /// TLS [default: none; policies that need it are not accepted]
    #[arg(long, env = "POSTERN_REDIS_URL", value_name = "URL", help_heading = NEEDS_RESTART)]
    pub redis_url: Option<String>,

    /// Folder (a mounted Secret) with the files username, password and ca.crt, each optional; it is read again for each
    /// new connection to Redis
    #[arg(long, env = "POSTERN_REDIS_CREDENTIALS", value_name = "DIR", help_heading = NEEDS_RESTART)]
    pub redis_credentials: Option<PathBuf>,

    /// Base URL of the OTLP/HTTP collector that receives the spans of requests, such as
    /// http://collector.monitoring:4318 [default: none; clients' trace headers pass unchanged]
    #[arg(long, env = "POSTERN_OTLP_ENDPOINT", value_name = "URL", help_heading = NEEDS_RESTART)]
    pub otlp_endpoint: Option<String>,

    /// Assign each Deployment the hostname <name>-<namespace>.DOMAIN [default: none]
    #[arg(long, env = "POSTERN_APEX_DOMAIN", value_name = "DOMAIN", help_heading = APPLIES_AT_ONCE)]
    pub apex_domain: Option<String>,

    /// Whether to serve Services without a selector. Their endpoints are not chosen by Kubernetes but by whoever may
    /// write EndpointSlices. If not, only the endpointslice controller's slices count, and pods of the namespace
    #[arg(long, env = "POSTERN_SELECTORLESS_SERVICES", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().selectorless_services, help_heading = APPLIES_AT_ONCE)]
    pub selectorless_services: bool,

    /// Whether requests to a Deployment before which no SentinelPolicy enforces a rule that can refuse are answered 503
    /// policy_invalid
    #[arg(long, env = "POSTERN_REQUIRE_POLICY", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().require_policy, help_heading = APPLIES_AT_ONCE)]
    pub require_policy: bool,

    /// How long to keep accepting connections after SIGTERM, while reporting unready (a duration: "5s", "1m30s",
    /// "250ms")
    #[arg(long, env = "POSTERN_SHUTDOWN_DELAY", value_name = "TIME", default_value_t = Self::default().shutdown_delay, help_heading = APPLIES_AT_ONCE)]
    pub shutdown_delay: Duration,

    /// How long requests and WebSockets may take to end after --shutdown-delay, or after --linger (a duration)
    #[arg(long, env = "POSTERN_DRAIN_DEADLINE", value_name = "TIME", default_value_t = Self::default().drain_deadline, help_heading = APPLIES_AT_ONCE)]
    pub drain_deadline: Duration,

    /// What happens to open WebSockets after --shutdown-delay: they end at --drain-deadline, or are first kept for
    /// --linger
    #[arg(long, env = "POSTERN_DRAIN_MODE", value_name = "MODE", value_enum, default_value_t = Self::default().drain_mode, help_heading = APPLIES_AT_ONCE)]
    pub drain_mode: DrainMode,

    /// How long --drain-mode linger keeps WebSockets open, unless all of them close earlier (a duration)
    #[arg(long, env = "POSTERN_LINGER", value_name = "TIME", default_value_t = Self::default().linger, help_heading = APPLIES_AT_ONCE)]
    pub linger: Duration,

    /// Who is served the debug pages of the admin port: clients on loopback, or nobody. Behind a service mesh's sidecar
    /// everybody comes from loopback
    #[arg(long, env = "POSTERN_ADMIN_DEBUG", value_name = "MODE", value_enum, default_value_t = Self::default().admin_debug, help_heading = APPLIES_AT_ONCE)]
    pub admin_debug: AdminDebug,

    /// Log level (error, warn, info, debug, trace, off), or levels by module: "info,postern::proxy=debug"
    #[arg(long, env = "POSTERN_LOG", value_name = "LEVELS", default_value_t = Self::default().log, help_heading = APPLIES_AT_ONCE)]
    pub log: String,

    /// Which requests the access log on stdout contains: all, those that a `logging` rule applies to, or none
    #[arg(long, env = "POSTERN_ACCESS_LOG", value_name = "MODE", value_enum, default_value_t = Self::default().access_log, help_heading = APPLIES_AT_ONCE)]
    pub access_log: AccessMode,

    /// Fraction of the traces started by Postern that is sampled, 0 to 1. Traces started by clients keep the client's
    /// decision
    #[arg(long, env = "POSTERN_OTLP_SAMPLE", value_name = "RATIO", default_value_t = Self::default().otlp_sample, help_heading = APPLIES_AT_ONCE)]
    pub otlp_sample: f64,

    /// IP addresses or hostnames to publish in `status.addresses`, separated by commas [default: none]
    #[arg(long, env = "POSTERN_PUBLISH_ADDRESS", value_name = "ADDRESSES", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub publish_address: Vec<String>,

    /// Certificates for hostnames that have none of their own: <namespace>/<name> of kubernetes.io/tls Secrets,
    /// separated by commas. The first that covers a hostname is used [default: none; such hostnames get a self-signed
    /// certificate]
    #[arg(long, env = "POSTERN_DEFAULT_TLS_SECRET", value_name = "SECRETS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub default_tls_secret: Vec<String>,

    /// Minimum TLS version for clients: 1.2 or 1.3
    #[arg(long, env = "POSTERN_TLS_MIN_VERSION", value_name = "VERSION", value_enum, default_value_t = Self::default().tls_min_version, help_heading = APPLIES_AT_ONCE)]
    pub tls_min_version: TlsVersion,

    /// How long a client's TLS handshake may take, including a PROXY header before it (a duration)
    #[arg(long, env = "POSTERN_TLS_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value_t = Self::default().tls_handshake_timeout, help_heading = APPLIES_AT_ONCE)]
    pub tls_handshake_timeout: Duration,

    /// How long an idle client connection stays open (a duration)
    #[arg(long, env = "POSTERN_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value_t = Self::default().keep_alive_timeout, help_heading = APPLIES_AT_ONCE)]
    pub keep_alive_timeout: Duration,

    /// Whether clients may use HTTP/2: by ALPN over TLS, by prior knowledge in plaintext
    #[arg(long, env = "POSTERN_HTTP2", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().http2, help_heading = APPLIES_AT_ONCE)]
    pub http2: bool,

    /// Maximum concurrent streams per HTTP/2 connection, 1 to 1000; clients hold back requests beyond it
    #[arg(long, env = "POSTERN_HTTP2_MAX_STREAMS", value_name = "COUNT", default_value_t = Self::default().http2_max_streams, help_heading = APPLIES_AT_ONCE)]
    pub http2_max_streams: u32,

    /// Whether WebSockets over HTTP/2 (RFC 8441) are offered; if not, browsers open them over HTTP/1.1
    #[arg(long, env = "POSTERN_WEBSOCKET_HTTP2", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().websocket_http2, help_heading = APPLIES_AT_ONCE)]
    pub websocket_http2: bool,

    /// Networks (CIDR) of the proxies in front of Postern, separated by commas: their X-Forwarded-* and X-Request-Id
    /// headers are trusted [default: none]
    #[arg(long, env = "POSTERN_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub trusted_proxies: Vec<String>,

    /// Whether connections from trusted proxies begin with a PROXY protocol header, version 1 or 2, on both ports
    #[arg(long, env = "POSTERN_PROXY_PROTOCOL", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().proxy_protocol, help_heading = APPLIES_AT_ONCE)]
    pub proxy_protocol: bool,

    /// Strict-Transport-Security header of every response over TLS, such as "max-age=31536000; includeSubDomains"
    /// [default: none]
    #[arg(long, env = "POSTERN_HSTS", value_name = "VALUE", help_heading = APPLIES_AT_ONCE)]
    pub hsts: Option<String>,

    /// Whether apps also receive Forwarded (RFC 7239), besides X-Forwarded-*
    #[arg(long, env = "POSTERN_FORWARDED", value_name = "BOOL", action = ArgAction::Set, default_value_t = Self::default().forwarded, help_heading = APPLIES_AT_ONCE)]
    pub forwarded: bool,

    /// Networks (CIDR), separated by commas, that URLs in policies (jwks, forwardAuth) may lead to although they are not
    /// public: private, shared, loopback and link-local addresses, unique local IPv6, a cloud's metadata service. A
    /// listener of Postern itself has to be listed by its own address [default: none]
    #[arg(long, env = "POSTERN_ALLOW_EGRESS", value_name = "CIDRS", value_delimiter = ',', help_heading = APPLIES_AT_ONCE)]
    pub allow_egress: Vec<String>,

    /// The hostnames that each namespace may use; settable in the file only. None: the oldest claim to a name wins.
    #[arg(skip)]
    pub hostname_grants: Option<BTreeMap<String, Vec<String>>>,
}

const NEEDS_RESTART: &str = "Options (need a restart to change)";
const APPLIES_AT_ONCE: &str = "Hot options (an edit of the settings file applies at once)";

/// The keys that apply without a restart.
pub const HOT: [&str; 25] = [
    "accessLog",
    "adminDebug",
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
            lenient: false,
            class: "postern".to_owned(),
            watch_namespaces: Vec::new(),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_connections: None,
            max_memory: None,
            log_format: LogFormat::Json,
            kubeconfig: None,
            state_dir: None,
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
            admin_debug: AdminDebug::Loopback,
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

/// What becomes of open sockets once nothing new is taken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum DrainMode {
    Close,
    Linger,
}

/// Who is served the debug pages.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum AdminDebug {
    Loopback,
    Off,
}

/// What the plaintext port does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum HttpMode {
    Redirect,
    Serve,
    Off,
}
