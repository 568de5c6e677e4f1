//! X-Forwarded-For, from a peer that is believed: the client is the first from the right that is not.

#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use postern::fields::X_FORWARDED_FOR;
use postern::proxy::client_origin::ClientOrigin;
use postern::proxy::peer::Peer;
use postern::snapshot::Listener;

fn peer(ip: &str) -> Peer {
    Peer::new(ip.parse().unwrap(), HeaderValue::from_static("80"), None).unwrap()
}

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(line) = HeaderValue::from_bytes(line) else {
            return;
        };
        headers.append(X_FORWARDED_FOR, line);
    }
    let listener = Listener {
        trusted_proxies: ["10.0.0.0/8", "fd00::/8"]
            .map(|network| network.parse().unwrap())
            .into(),
        forwarded: true,
        ..Listener::default()
    };

    let stranger = peer("192.0.2.1");
    let origin = ClientOrigin::of(&stranger, &headers, Some(&listener));
    assert!(!origin.trusted && origin.ip == stranger.ip && *origin.forwarded_for == stranger.address);

    let proxy = peer("10.0.0.1");
    let origin = ClientOrigin::of(&proxy, &headers, Some(&listener));
    let way = origin.forwarded_for.to_str().unwrap();
    let hops: Vec<IpAddr> = way.split(", ").map(|hop| hop.parse().unwrap()).collect();
    assert!(origin.trusted && hops[0] == origin.ip && hops[hops.len() - 1] == proxy.ip);
    assert!(hops[1..].iter().all(|hop| listener.trusts(*hop)), "{way}");
    assert!(hops.iter().all(|hop| hop.to_canonical() == *hop));
    assert_eq!(origin.client.to_str().unwrap(), origin.ip.to_string());
    let forwarded = origin.forwarded(&HeaderValue::from_static("a.example")).unwrap();
    assert!(forwarded.to_str().unwrap().ends_with(";host=\"a.example\";proto=http"));

    // Another Postern behind this one finds the same client. Hops are looked at up to a bound.
    if hops.len() < 60 {
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_str(way).unwrap())]);
        let next = peer("10.0.0.2");
        let again = ClientOrigin::of(&next, &headers, Some(&listener));
        assert_eq!(again.ip, origin.ip);
        assert_eq!(*again.forwarded_for, format!("{way}, 10.0.0.2"));
    }
});
