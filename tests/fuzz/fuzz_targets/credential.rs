//! Credentials: whatever a rule finds in a request, in any of its places, the app gets none of it.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use postern::policy::credentials::{Place, Source, find};
use postern::policy::request::Request;
use postern_fuzz::head;

static HOST: HeaderValue = HeaderValue::from_static("app.example");

fn request<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Request<'a> {
    Request {
        method: &Method::GET,
        headers,
        authority: &HOST,
        host: "app.example",
        uri,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        trusted: false,
        https: true,
        web_socket: true,
        certificate: None,
        readings: Default::default(),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((parts, _)) = head(input) else { return };
    if !parts.uri.path().starts_with('/') || parts.uri.authority().is_some() {
        return;
    }
    let places = [
        Place::Bearer,
        Place::Header {
            name: HeaderName::from_static("x-api-key"),
            prefix: Some("Key ".into()),
        },
        Place::Query { name: "key".into() },
        Place::Cookie { name: "key".into() },
        Place::Subprotocol { prefix: "key.".into() },
    ];
    let sources = places.map(|place| Source { place, forward: false });
    // Each place by itself, and then all of them.
    for sources in sources.iter().map(std::slice::from_ref).chain([&sources[..]]) {
        let sources: Arc<[Source]> = sources.into();
        let credential = match find(&sources, &request(&parts.uri, &parts.headers)) {
            Ok(Some(found)) => {
                assert!(!found.value.is_empty() && found.value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                found.credential
            }
            Ok(None) | Err(_) => continue,
        };
        let uri = credential.strip_target(&parts.uri).unwrap_or(parts.uri.clone());
        let mut headers = parts.headers.clone();
        credential.strip_headers(&mut headers);
        let left = find(&sources, &request(&uri, &headers));
        assert!(matches!(left, Ok(None)), "{sources:?} are left in {uri} {headers:?}");

        // What is no credential stays, and a second look takes nothing more.
        assert_eq!(uri.path(), parts.uri.path());
        let is_key = |pair: &str| {
            let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
            name.contains(['%', ';']) || name == "key"
        };
        let pairs = |uri: &Uri| {
            let query = uri.query().unwrap_or_default().split('&').map(str::to_owned);
            query
                .filter(|pair| !pair.is_empty() && !is_key(pair))
                .collect::<Vec<_>>()
        };
        if !parts.uri.query().unwrap_or_default().contains(';') {
            assert_eq!(pairs(&uri), pairs(&parts.uri));
        }
        assert_eq!(credential.strip_target(&uri), None);
        let once = headers.clone();
        credential.strip_headers(&mut headers);
        assert_eq!(headers, once);
    }
});
