//! The closed list of reasons for which Postern answers a request itself. The metric, the log, the header and the body all
//! name its codes; `proxy::error` renders the answer.

use http::StatusCode;
use serde::{Serialize, Serializer};
use strum::VariantArray;

/// Why Postern answers a request itself. The first half of the code says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray)]
pub enum Reason {
    AmbiguousPath,
    AuthRefused,
    AuthUnavailable,
    BackendNotFound,
    BadGateway,
    BadRequest,
    BadUpgrade,
    BadUpstreamUpgrade,
    BodyTooLarge,
    DeploymentInvalid,
    DeploymentOffline,
    FirewallDenied,
    HeadersTooLarge,
    HostNotFound,
    InsufficientPermissions,
    InternalError,
    InvalidCredentials,
    InvalidKey,
    InvalidToken,
    LoopDetected,
    MethodNotAllowed,
    Misdirected,
    MissingCredentials,
    NoReadyEndpoint,
    OpenapiValidationFailed,
    OriginDenied,
    Overloaded,
    PathNotFound,
    PlaintextOnTls,
    PolicyInvalid,
    PolicyTimeout,
    RateLimited,
    RequestTimeout,
    Starting,
    StoreUnavailable,
    TlsRequired,
    TooManyConnections,
    Unreachable,
    UnsupportedVersion,
    UpstreamTimeout,
    UriTooLong,
}

/// The code logged for a request whose client left before any answer (nginx' 499). Not a `Reason`, since nothing is sent.
pub const CLOSED_REQUEST: &str = "client:closed_request";

impl Reason {
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// `<owner>:<code>`, as it stands in X-Postern-Error, in the problem's `code` and in the metric's `reason`.
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// What happened and who has to act, for a person to read. It never names a detail of the app or its network.
    pub fn detail(self) -> &'static str {
        self.row().2
    }

    /// Whether the connection closes after the answer. Once the end of a request is in doubt, the bytes that follow cannot
    /// be read as another request.
    pub fn ends_connection(self) -> bool {
        use Reason as R;
        matches!(
            self,
            R::BadRequest
                | R::BadUpgrade
                // The rest of the body is not read.
                | R::BodyTooLarge
                | R::HeadersTooLarge
                // Only another connection can serve this hostname.
                | R::Misdirected
                | R::MethodNotAllowed
                | R::RequestTimeout
                | R::UriTooLong
        )
    }

    /// The value of Retry-After in seconds, set on every 503. It is jittered, so that clients refused together do not retry
    /// together.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::DeploymentOffline => Some(60),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(fastrand::u32(1..=5)),
            _ => None,
        }
    }

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::AmbiguousPath => (
                S::BAD_REQUEST,
                "client:ambiguous_path",
                "The path is ambiguous: it contains an encoded slash, an empty segment or something similar.",
            ),
            Self::AuthRefused => (
                S::FORBIDDEN,
                "client:auth_refused",
                "The authorization service refused this request.",
            ),
            Self::AuthUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "policy:auth_unavailable",
                "Credentials cannot be verified right now: the identity provider is unavailable.",
            ),
            Self::BackendNotFound => (
                S::SERVICE_UNAVAILABLE,
                "config:backend_not_found",
                "The Service, port or TLS reference of this route does not exist.",
            ),
            Self::BadGateway => (
                S::BAD_GATEWAY,
                "upstream:bad_gateway",
                "The app closed the connection or sent an invalid HTTP response.",
            ),
            Self::BadRequest => (
                S::BAD_REQUEST,
                "client:bad_request",
                "The request is malformed or ambiguous.",
            ),
            Self::BadUpgrade => (
                S::BAD_REQUEST,
                "client:bad_upgrade",
                "The WebSocket handshake is malformed.",
            ),
            Self::BadUpstreamUpgrade => (
                S::BAD_GATEWAY,
                "upstream:bad_upgrade",
                "The app's response to the WebSocket handshake is invalid.",
            ),
            Self::BodyTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "client:body_too_large",
                "The request body is too large.",
            ),
            Self::DeploymentInvalid => (
                S::SERVICE_UNAVAILABLE,
                "config:deployment_invalid",
                "The configuration of this app is not understood.",
            ),
            Self::DeploymentOffline => (
                S::SERVICE_UNAVAILABLE,
                "capacity:deployment_offline",
                "This deployment is stopped.",
            ),
            Self::FirewallDenied => (
                S::FORBIDDEN,
                "client:firewall_denied",
                "This request is not allowed here.",
            ),
            Self::HeadersTooLarge => (
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "client:headers_too_large",
                "The request has too many header fields, or they are too large.",
            ),
            Self::HostNotFound => (
                S::NOT_FOUND,
                "routing:host_not_found",
                "No deployment serves this hostname.",
            ),
            Self::InsufficientPermissions => (
                S::FORBIDDEN,
                "client:insufficient_permissions",
                "The credentials lack the permissions that this request needs.",
            ),
            Self::InternalError => (
                S::INTERNAL_SERVER_ERROR,
                "platform:internal_error",
                "The proxy has failed with an internal error.",
            ),
            Self::InvalidCredentials => (
                S::UNAUTHORIZED,
                "client:invalid_credentials",
                "The user name or password is wrong.",
            ),
            Self::InvalidKey => (S::UNAUTHORIZED, "client:invalid_key", "The API key is not valid."),
            Self::InvalidToken => (S::UNAUTHORIZED, "client:invalid_token", "The token is not valid."),
            Self::LoopDetected => (
                S::LOOP_DETECTED,
                "routing:loop_detected",
                "The request has come back to this proxy too often: an app or a Service leads here.",
            ),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "client:method_not_allowed",
                "This method is not supported.",
            ),
            Self::Misdirected => (
                S::MISDIRECTED_REQUEST,
                "routing:misdirected",
                "This connection was opened for another hostname: open a new one.",
            ),
            Self::MissingCredentials => (
                S::UNAUTHORIZED,
                "client:missing_credentials",
                "This request needs credentials.",
            ),
            Self::NoReadyEndpoint => (
                S::SERVICE_UNAVAILABLE,
                "capacity:no_ready_endpoint",
                "The app has no ready endpoint.",
            ),
            Self::OpenapiValidationFailed => (
                S::BAD_REQUEST,
                "client:openapi_validation_failed",
                "The request does not match the API description.",
            ),
            Self::OriginDenied => (S::FORBIDDEN, "client:origin_denied", "This origin is not allowed."),
            Self::Overloaded => (
                S::SERVICE_UNAVAILABLE,
                "capacity:overloaded",
                "The proxy is overloaded: try again later.",
            ),
            Self::PathNotFound => (
                S::NOT_FOUND,
                "routing:path_not_found",
                "No deployment serves this path on this hostname.",
            ),
            Self::PlaintextOnTls => (
                S::BAD_REQUEST,
                "client:plaintext_on_tls",
                "Plain HTTP was sent to a TLS port: use https:// or wss://.",
            ),
            Self::PolicyInvalid => (
                S::SERVICE_UNAVAILABLE,
                "config:policy_invalid",
                "A policy that this app requires is missing or invalid.",
            ),
            Self::PolicyTimeout => (
                S::SERVICE_UNAVAILABLE,
                "policy:timeout",
                "The policies of this app took too long to decide.",
            ),
            Self::RateLimited => (
                S::TOO_MANY_REQUESTS,
                "client:rate_limited",
                "Too many requests: try again later.",
            ),
            Self::RequestTimeout => (
                S::REQUEST_TIMEOUT,
                "client:request_timeout",
                "The request did not arrive in time.",
            ),
            Self::Starting => (
                S::SERVICE_UNAVAILABLE,
                "config:starting",
                "The proxy is starting and has not loaded its routes yet.",
            ),
            Self::StoreUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "policy:store_unavailable",
                "Rate limits cannot be checked right now: their store is unavailable.",
            ),
            Self::TlsRequired => (
                S::UPGRADE_REQUIRED,
                "client:tls_required",
                "WebSockets are served over TLS only: use wss:// instead of ws://.",
            ),
            Self::TooManyConnections => (
                S::TOO_MANY_REQUESTS,
                "client:too_many_connections",
                "Too many WebSockets are already open.",
            ),
            Self::Unreachable => (
                S::SERVICE_UNAVAILABLE,
                "upstream:unreachable",
                "No endpoint of the app could be reached.",
            ),
            Self::UnsupportedVersion => (
                S::UPGRADE_REQUIRED,
                "client:unsupported_version",
                "Only WebSocket version 13 is supported.",
            ),
            Self::UpstreamTimeout => (
                S::GATEWAY_TIMEOUT,
                "upstream:timeout",
                "The app did not answer in time.",
            ),
            Self::UriTooLong => (
                S::URI_TOO_LONG,
                "client:uri_too_long",
                "The request target is too long.",
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}
