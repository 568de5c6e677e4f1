//! Why there is no certificate, in words that stand in a condition: what the ACME server said, without its control
//! characters and cut short.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{Error, Problem};
use tokio::time::timeout;

use super::secrets;
use crate::object::ObjectKey;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Secret(#[from] secrets::Error),
    #[error("the request to the ACME server failed: {}", told(.0))]
    Server(Error),
    #[error("the ACME server did not answer in time")]
    Slow,
    #[error("the ACME server did not accept the challenge: {0}")]
    Invalid(String),
    #[error("the ACME server offers no HTTP-01 challenge for this hostname")]
    NoChallenge,
    #[error("Postern did not serve the challenge in time")]
    NotServed,
    #[error("the order took too long")]
    TooLong,
    #[error("the issued certificate is unusable: it is not for this hostname or not for the key of the order")]
    Certificate,
    #[error("Secret {0} contains no readable ACME account: delete it to register a new account")]
    Account(ObjectKey),
    #[error("the ACME server no longer knows the account in Secret {0}: delete the Secret to register a new account")]
    UnknownAccount(ObjectKey),
    #[error("cannot read the certificate authority in {}: {cause}", path.display())]
    Authority { path: PathBuf, cause: String },
}

impl Failure {
    /// RFC 8555 section 6.6.
    pub fn is_rate_limit(&self) -> bool {
        self.problem() == Some("urn:ietf:params:acme:error:rateLimited")
    }

    /// The account may be another one by now (RFC 8555 section 7.3.6).
    pub fn is_about_the_account(&self) -> bool {
        matches!(
            self.problem(),
            Some("urn:ietf:params:acme:error:accountDoesNotExist" | "urn:ietf:params:acme:error:unauthorized")
        )
    }

    /// Whether the server does not know the account any more (RFC 8555 section 6.7: accountDoesNotExist).
    pub fn is_unknown_account(&self) -> bool {
        self.problem() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    }

    fn problem(&self) -> Option<&str> {
        match self {
            Self::Server(Error::Api(problem)) => problem.r#type.as_deref(),
            _ => None,
        }
    }
}

/// One call to the ACME server, within its time.
pub async fn call<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map_err(Failure::Server),
        Err(_) => Err(Failure::Slow),
    }
}

/// With its causes: "client error (Connect)" alone tells nobody anything.
fn told(error: &Error) -> String {
    if let Error::Api(problem) = error {
        return problem_text(problem);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause.filter(|_| text.len() < MAX_TEXT) {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    plain(&text)
}

/// What a server says of a failure (RFC 8555 section 6.7).
pub fn problem_text(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("no reason given");
    let r#type = problem.r#type.as_deref().unwrap_or("about:blank");
    plain(&format!("{detail} ({type})"))
}

fn plain(text: &str) -> String {
    let mut plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT)
        .collect();
    if text.chars().count() > MAX_TEXT {
        plain.push_str("...");
    }
    plain
}

const CALL: Duration = Duration::from_secs(30);
const MAX_TEXT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(r#type: &str, detail: &str) -> Problem {
        serde_json::from_value(serde_json::json!({"type": r#type, "detail": detail})).unwrap()
    }

    #[test]
    fn the_servers_words_stand_in_one_bounded_line() {
        let text = problem_text(&problem("urn:ietf:params:acme:error:dns", "no\nsuch\u{1b}[31m name"));
        assert_eq!(text, "no such [31m name (urn:ietf:params:acme:error:dns)");
        let long = problem_text(&problem("urn:x", &"é".repeat(10_000)));
        assert!(long.chars().count() <= MAX_TEXT + 3 && long.ends_with("..."));
    }

    #[test]
    fn a_failure_tells_its_causes() {
        let lowest = std::io::Error::other("connection refused");
        let error = Error::Other(Box::new(lowest));
        assert!(Failure::Server(error).to_string().contains("connection refused"));
    }

    #[test]
    fn a_rate_limit_is_told_from_other_refusals() {
        let refused = |r#type: &str| Failure::Server(Error::Api(problem(r#type, "no")));
        assert!(refused("urn:ietf:params:acme:error:rateLimited").is_rate_limit());
        assert!(!refused("urn:ietf:params:acme:error:malformed").is_rate_limit());
        assert!(!Failure::Slow.is_rate_limit());
    }
}
