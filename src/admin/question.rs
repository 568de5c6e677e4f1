//! A request that nobody has sent, about which `why` is asked: as the admin port is asked, and as it is written for it.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// Not printed: its headers and its query may be credentials.
pub struct Question {
    /// May have a port.
    pub host: String,
    /// Path and query.
    pub uri: Uri,
    /// GET unless it is said otherwise; it stays GET for a WebSocket.
    pub method: Method,
    /// As they are sent, credentials among them.
    pub headers: HeaderMap,
    /// The address that rules see as the client's; 127.0.0.1 unless it is said otherwise.
    pub client: IpAddr,
    /// Whether the request is a WebSocket handshake; false by default.
    pub web_socket: bool,
}

/// What the admin port answers where a question cannot be understood.
pub const USAGE: &str =
    "usage: /debug/why?host=HOST&path=/PATH[&method=METHOD][&ip=ADDRESS][&webSocket=true][&header=NAME:VALUE]...";

impl Question {
    /// A GET by nobody in particular. `path` may have a query; None: it is no path.
    pub fn new(host: &str, path: &str) -> Option<Self> {
        let uri: Uri = path.parse().ok()?;
        path.starts_with('/').then(|| Self {
            host: host.to_owned(),
            uri,
            method: Method::GET,
            headers: HeaderMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            web_socket: false,
        })
    }

    /// As `to_query` writes it.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        let host = value("host").ok_or("host is missing")?;
        let mut question = Self::new(host, value("path").unwrap_or("/")).ok_or("path is not a valid path")?;
        if let Some(method) = value("method") {
            question.method = method.parse().map_err(|_| "method is not a valid method")?;
        }
        if let Some(ip) = value("ip") {
            question.client = ip.parse().map_err(|_| "ip is not an IP address")?;
        }
        question.web_socket = value("webSocket") == Some("true");
        for (_, header) in pairs.iter().filter(|(name, _)| name == "header") {
            question.add_header(header)?;
        }
        Ok(question)
    }

    /// As `from_query` reads it: the query of `/debug/why`, encoded.
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("host", &self.host)
            .append_pair("path", &self.uri.to_string())
            .append_pair("method", self.method.as_str())
            .append_pair("ip", &self.client.to_string())
            .append_pair("webSocket", if self.web_socket { "true" } else { "false" });
        for (name, value) in &self.headers {
            query.append_pair(
                "header",
                &format!("{name}:{}", String::from_utf8_lossy(value.as_bytes())),
            );
        }
        query.finish()
    }

    /// `Name: value`.
    pub fn add_header(&mut self, line: &str) -> Result<(), String> {
        let wrong = || "a header must be written NAME:VALUE".to_owned();
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        self.headers.append(name, value);
        Ok(())
    }
}
