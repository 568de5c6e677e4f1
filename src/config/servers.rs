//! The servers that Postern itself calls, as far as settings name them: ACME, the collector of traces, Redis.

use std::path::PathBuf;

use http::Uri;
use serde::Serialize;

use super::error::{Invalid, invalid};
use super::flags::Flags;
use crate::limits::shared::Store;
use crate::text::printed;

/// Where certificates are ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acme {
    /// An https URL.
    pub directory: String,
    /// Told to the ACME server as the account's contact; None: no contact is told.
    pub email: Option<String>,
    /// None: the system's authorities vouch for the server.
    pub ca: Option<PathBuf>,
}

/// Which requests are followed, and where that is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// Whole, with its path. None: no request is followed.
    #[serde(serialize_with = "printed::option_text")]
    pub endpoint: Option<Uri>,
    /// From 0 to 1.
    pub sample: f64,
}

impl Flags {
    /// Fails for a directory that is no https URL, or an email that is no plain address.
    pub(super) fn acme(&self) -> Result<Acme, Invalid> {
        let directory = self.acme_directory.parse::<Uri>();
        if !directory.is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some_and(|h| !h.is_empty())) {
            return Err(invalid("acmeDirectory", "is not an https:// URL"));
        }
        if let Some(email) = &self.acme_email {
            // What else RFC 8555 section 7.3 lets a mailto: URI hold, servers refuse: lists and header fields.
            let is_plain = |c: char| c.is_ascii_graphic() && !",?&%<>\"".contains(c);
            let parts = email.split('@').collect::<Vec<_>>();
            if email.len() > 254 || !email.chars().all(is_plain) || parts.len() != 2 || parts.contains(&"") {
                return Err(invalid(
                    "acmeEmail",
                    "is not an address such as \"someone@example.com\"",
                ));
            }
        }
        Ok(Acme {
            directory: self.acme_directory.clone(),
            email: self.acme_email.clone(),
            ca: self.acme_ca.clone(),
        })
    }

    /// Fails for a share outside of 0 to 1, or an endpoint that is no plain URL.
    pub(super) fn traces(&self) -> Result<Traces, Invalid> {
        if !(0.0..=1.0).contains(&self.otlp_sample) {
            return Err(invalid("otlpSample", "must be between 0 and 1"));
        }
        let endpoint = self.otlp_endpoint.as_deref().map(|text| {
            // What it is stays unsaid: it may hold a password.
            let not_like = |what: &str| {
                let like = "expected a URL such as \"http://collector.monitoring:4318\"";
                invalid("otlpEndpoint", format!("{what}: {like}"))
            };
            let url = text.parse::<Uri>().map_err(|_| not_like("is not a URL"))?;
            let authority = url.authority().map_or("", |authority| authority.as_str());
            if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
                return Err(not_like("is not an http:// or https:// URL"));
            }
            if authority.contains('@') || url.query().is_some() {
                return Err(not_like("contains credentials or a query"));
            }
            let base = text.trim_end_matches('/');
            format!("{base}/v1/traces")
                .parse()
                .map_err(|_| not_like("is not a URL"))
        });
        Ok(Traces {
            endpoint: endpoint.transpose()?,
            sample: self.otlp_sample,
        })
    }

    /// None: no store is set, and policies that need one are refused. Fails for a URL that cannot be understood, or
    /// credentials without a URL.
    pub(super) fn store(&self) -> Result<Option<Store>, Invalid> {
        let Some(url) = &self.redis_url else {
            return match self.redis_credentials {
                None => Ok(None),
                Some(_) => Err(invalid("redisCredentials", "needs redisUrl")),
            };
        };
        let not_like = |what: &str| {
            invalid(
                "redisUrl",
                format!("{what}: expected a URL such as \"rediss://redis.example:6379/0\""),
            )
        };
        // What it is stays unsaid: it may hold a password.
        let url = url.parse::<Uri>().map_err(|_| not_like("is not a URL"))?;
        let tls = match url.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => return Err(not_like("is neither redis:// nor rediss://")),
        };
        if url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(invalid(
                "redisUrl",
                "contains credentials: put them into redisCredentials",
            ));
        }
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let database = url.path().trim_start_matches('/');
        if host.is_empty() || url.query().is_some() {
            return Err(not_like("has no host, or has a query"));
        }
        Ok(Some(Store {
            tls,
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(6379),
            database: match database {
                "" => 0,
                number => number.parse().map_err(|_| not_like("has an invalid database number"))?,
            },
            credentials: self.redis_credentials.clone(),
        }))
    }
}
