//! Every reason for which Postern answers by itself: the metric, the log, the header and the body all name the same closed
//! list. How such an answer looks is `proxy::error`'s.

use http::StatusCode;
use serde::{Serialize, Serializer};
use strum::VariantArray;

/// Why Postern answers by itself. The code's first half says whose fault it is.
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
    DeploymentOffline,
    FirewallDenied,
    HeadersTooLarge,
    HostNotFound,
    InsufficientPermissions,
    InternalError,
    InvalidCredentials,
    InvalidKey,
    InvalidToken,
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

/// Of a request that was answered by nobody, since its client left: not a reason to answer, but told of beside them.
pub const CLOSED_REQUEST: &str = "client:closed_request";

impl Reason {
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// `<owner>:<code>`, as it stands in X-Postern-Error, in the problem's `code` and in the metric's `reason`.
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// For a person: what happened and whose move it is. Never a detail of the app or the network behind it.
    pub fn detail(self) -> &'static str {
        self.row().2
    }

    /// Where a request's end is in doubt, nothing that follows it on its connection is a request.
    pub fn ends_connection(self) -> bool {
        use Reason as R;
        matches!(
            self,
            R::BadRequest
                | R::BadUpgrade
                // The rest of it is not waited for.
                | R::BodyTooLarge
                | R::HeadersTooLarge
                // What it is asked for, this connection cannot give: who comes back is to come on another.
                | R::Misdirected
                | R::MethodNotAllowed
                | R::RequestTimeout
                | R::UriTooLong
        )
    }

    /// Seconds, on every 503: jittered, so that those who were refused together do not come back together.
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
                "The path can be read in several ways: it holds an encoded slash, an empty segment or the like.",
            ),
            Self::AuthRefused => (
                S::FORBIDDEN,
                "client:auth_refused",
                "The service that is asked about requests refused this one.",
            ),
            Self::AuthUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "policy:auth_unavailable",
                "What credentials are verified by cannot be reached at present.",
            ),
            Self::BackendNotFound => (
                S::SERVICE_UNAVAILABLE,
                "config:backend_not_found",
                "The Service, port or TLS reference that this route names does not exist.",
            ),
            Self::BadGateway => (
                S::BAD_GATEWAY,
                "upstream:bad_gateway",
                "The app closed the connection or sent something that is not HTTP.",
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
                "The app's answer to the WebSocket handshake does not match it.",
            ),
            Self::BodyTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "client:body_too_large",
                "The request's body is too large.",
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
                "The request's header fields are too many or too large.",
            ),
            Self::HostNotFound => (
                S::NOT_FOUND,
                "routing:host_not_found",
                "No deployment serves this hostname.",
            ),
            Self::InsufficientPermissions => (
                S::FORBIDDEN,
                "client:insufficient_permissions",
                "These credentials do not permit this request.",
            ),
            Self::InternalError => (
                S::INTERNAL_SERVER_ERROR,
                "platform:internal_error",
                "An error inside the proxy.",
            ),
            Self::InvalidCredentials => (
                S::UNAUTHORIZED,
                "client:invalid_credentials",
                "The user name or the password is wrong.",
            ),
            Self::InvalidKey => (S::UNAUTHORIZED, "client:invalid_key", "The API key is not valid."),
            Self::InvalidToken => (S::UNAUTHORIZED, "client:invalid_token", "The token is not valid."),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "client:method_not_allowed",
                "This method is not served here.",
            ),
            Self::Misdirected => (
                S::MISDIRECTED_REQUEST,
                "routing:misdirected",
                "This connection was made for another hostname: use a new one.",
            ),
            Self::MissingCredentials => (
                S::UNAUTHORIZED,
                "client:missing_credentials",
                "This request needs credentials.",
            ),
            Self::NoReadyEndpoint => (
                S::SERVICE_UNAVAILABLE,
                "capacity:no_ready_endpoint",
                "The app has no endpoint that is ready.",
            ),
            Self::OpenapiValidationFailed => (
                S::BAD_REQUEST,
                "client:openapi_validation_failed",
                "The request is not one of the API's.",
            ),
            Self::OriginDenied => (
                S::FORBIDDEN,
                "client:origin_denied",
                "Pages of this origin may not come here.",
            ),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "capacity:overloaded", "Too much is in flight."),
            Self::PathNotFound => (
                S::NOT_FOUND,
                "routing:path_not_found",
                "This hostname serves no such path.",
            ),
            Self::PlaintextOnTls => (
                S::BAD_REQUEST,
                "client:plaintext_on_tls",
                "Plain HTTP was sent to a port that speaks TLS: use https:// or wss://.",
            ),
            Self::PolicyInvalid => (
                S::SERVICE_UNAVAILABLE,
                "config:policy_invalid",
                "A rule that must stand before this app cannot be applied.",
            ),
            Self::PolicyTimeout => (
                S::SERVICE_UNAVAILABLE,
                "policy:timeout",
                "The rules that stand before this app took too long to decide.",
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
                "The proxy does not know its routes yet.",
            ),
            Self::StoreUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "policy:store_unavailable",
                "The store that requests are counted in cannot be reached at present.",
            ),
            Self::TlsRequired => (
                S::UPGRADE_REQUIRED,
                "client:tls_required",
                "WebSockets are served over TLS alone: use wss:// in place of ws://.",
            ),
            Self::TooManyConnections => (
                S::TOO_MANY_REQUESTS,
                "client:too_many_connections",
                "Too many sockets are open already.",
            ),
            Self::Unreachable => (
                S::SERVICE_UNAVAILABLE,
                "upstream:unreachable",
                "No endpoint of the app could be reached.",
            ),
            Self::UnsupportedVersion => (
                S::UPGRADE_REQUIRED,
                "client:unsupported_version",
                "Only WebSocket version 13 is spoken here.",
            ),
            Self::UpstreamTimeout => (
                S::GATEWAY_TIMEOUT,
                "upstream:timeout",
                "The app did not answer in time.",
            ),
            Self::UriTooLong => (
                S::URI_TOO_LONG,
                "client:uri_too_long",
                "The request's target is too long.",
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}
