//! A request's target and host: what is accepted reads the same to everybody who reads it after Postern.

#![no_main]

use http::{HeaderValue, Version, header};
use libfuzzer_sys::fuzz_target;
use postern::hostname::normalize;
use postern::proxy::target::Target;
use postern_fuzz::{cut, head};

fuzz_target!(|input: &[u8]| {
    let Some((mut parts, _)) = head(input) else { return };
    let Ok(target) = Target::of(&parts) else { return };

    let name = target.hostname();
    assert!(!name.is_empty() && name.is_ascii() && !name.contains(['[', ']', '/', '@', '?', '#', ' ']));
    assert!(!name.contains(|char: char| char.is_ascii_uppercase()));
    assert_eq!(normalize(target.host_without_port()), name);
    if !name.contains(':') {
        assert_eq!(normalize(&name), name, "the name of a name");
    }

    assert!(target.uri.scheme().is_none() && target.uri.authority().is_none());
    assert!(target.path().starts_with('/') || target.path() == "*");
    let asked = cut(input).0.split(|byte| *byte == b' ').nth(1).unwrap();
    if asked.starts_with(b"/") && !asked.contains(&b'#') {
        assert_eq!(target.uri.to_string().as_bytes(), asked, "origin form stays as it is");
    }

    // The app reads one request, with this very target and host.
    let host = target.host.to_str().unwrap();
    let sent = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n\r\n", parts.method, target.uri);
    let mut lines = [httparse::EMPTY_HEADER; 4];
    let mut read = httparse::Request::new(&mut lines);
    assert_eq!(read.parse(sent.as_bytes()), Ok(httparse::Status::Complete(sent.len())));
    assert_eq!(read.path, Some(&*target.uri.to_string()));
    assert_eq!((read.headers.len(), read.headers[0].value), (1, host.as_bytes()));

    // So does another Postern behind this one.
    parts.version = Version::HTTP_11;
    parts.uri = target.uri.clone();
    parts.headers.clear();
    parts.headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
    let again = Target::of(&parts).unwrap();
    assert_eq!((&again.host, &again.uri), (&target.host, &target.uri));
});
