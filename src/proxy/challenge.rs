//! The answer to an ACME server that looks for its token (HTTP-01, RFC 8555 section 8.3), on either port and before any
//! redirect. Who asks for certificates, and puts the tokens into the snapshot, is `acme`.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, header};
use http_body_util::Full;

use super::body::Body;
use super::target::Target;
use crate::snapshot::Snapshot;

const PATH: &str = "/.well-known/acme-challenge/";

/// None: it is not a challenge, or not one of ours; such a request goes the normal way.
pub fn answer(snapshot: &Snapshot, head: &Parts, target: &Target) -> Option<Response<Body>> {
    let token = target.path().strip_prefix(PATH)?;
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    let answer = snapshot.challenge(&target.hostname(), token)?;
    let mut response = Response::new(Body::Own(Full::new(Bytes::copy_from_slice(answer.as_bytes()))));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use http::Request;
    use http_body_util::BodyExt;

    use super::*;

    fn ask(method: Method, host: &str, path: &str) -> Option<Response<Body>> {
        let token = BTreeMap::from([("token".into(), "token.thumbprint".into())]);
        let snapshot = Snapshot {
            challenges: Arc::new(BTreeMap::from([("a.example.com".into(), token)])),
            ..Snapshot::default()
        };
        let request = Request::builder().method(method).uri(path).header(header::HOST, host);
        let (head, ()) = request.body(()).unwrap().into_parts();
        answer(&snapshot, &head, &Target::of(&head).unwrap())
    }

    #[tokio::test]
    async fn a_known_token_is_answered_with_its_key_authorization() {
        let path = "/.well-known/acme-challenge/token";
        for host in ["a.example.com", "A.Example.com:80", "a.example.com."] {
            let answer = ask(Method::GET, host, path).expect("an answer");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/octet-stream");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "token.thumbprint");
        }
        assert!(ask(Method::HEAD, "a.example.com", path).is_some());
    }

    #[test]
    fn all_else_goes_the_normal_way() {
        let known = "/.well-known/acme-challenge/token";
        assert!(ask(Method::POST, "a.example.com", known).is_none());
        assert!(ask(Method::GET, "b.example.com", known).is_none());
        for path in ["", "token/", "TOKEN", "other", "%74oken"] {
            let path = format!("/.well-known/acme-challenge/{path}");
            assert!(ask(Method::GET, "a.example.com", &path).is_none(), "{path}");
        }
        assert!(ask(Method::GET, "a.example.com", "/").is_none());
    }
}
