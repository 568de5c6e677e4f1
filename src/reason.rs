//! Every reason for which Postern answers by itself: the metric, the log, the header and the body all name the same closed
//! list. How such an answer looks is `proxy::error`'s.

use http::StatusCode;
use serde::{Serialize, Serializer};

/// Why Postern answers by itself. The code's first half says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BackendNotFound,
    BadGateway,
    BadRequest,
    BadUpgrade,
    BadUpstreamUpgrade,
    DeploymentOffline,
    HeadersTooLarge,
    HostNotFound,
    InternalError,
    MethodNotAllowed,
    Misdirected,
    NoReadyEndpoint,
    Overloaded,
    PathNotFound,
    PlaintextOnTls,
    PolicyInvalid,
    RequestTimeout,
    Starting,
    TlsRequired,
    Unreachable,
    UnsupportedVersion,
    UpstreamTimeout,
    UriTooLong,
}

impl Reason {
    /// In the order of the variants, so that `reason as usize` is an index.
    pub const ALL: [Self; 23] = [
        Self::BackendNotFound,
        Self::BadGateway,
        Self::BadRequest,
        Self::BadUpgrade,
        Self::BadUpstreamUpgrade,
        Self::DeploymentOffline,
        Self::HeadersTooLarge,
        Self::HostNotFound,
        Self::InternalError,
        Self::MethodNotAllowed,
        Self::Misdirected,
        Self::NoReadyEndpoint,
        Self::Overloaded,
        Self::PathNotFound,
        Self::PlaintextOnTls,
        Self::PolicyInvalid,
        Self::RequestTimeout,
        Self::Starting,
        Self::TlsRequired,
        Self::Unreachable,
        Self::UnsupportedVersion,
        Self::UpstreamTimeout,
        Self::UriTooLong,
    ];

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
            Self::DeploymentOffline => (
                S::SERVICE_UNAVAILABLE,
                "capacity:deployment_offline",
                "This deployment is stopped.",
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
            Self::InternalError => (
                S::INTERNAL_SERVER_ERROR,
                "platform:internal_error",
                "An error inside the proxy.",
            ),
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
            Self::NoReadyEndpoint => (
                S::SERVICE_UNAVAILABLE,
                "capacity:no_ready_endpoint",
                "The app has no endpoint that is ready.",
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
            Self::TlsRequired => (
                S::UPGRADE_REQUIRED,
                "client:tls_required",
                "WebSockets are served over TLS alone: use wss:// in place of ws://.",
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
