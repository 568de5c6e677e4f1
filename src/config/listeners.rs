//! The addresses at which this process can be reached: an endpoint there would be a loop.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use tracing::warn;

/// Every address of our interfaces with each of the bound ports that listens on it.
pub fn own_listeners(bound: &[SocketAddr]) -> BTreeSet<SocketAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        warn!(%error, "cannot list the network interfaces: endpoints that are Postern itself cannot be detected");
        Vec::new()
    });
    let interfaces: Vec<IpAddr> = interfaces.iter().map(|interface| interface.ip()).collect();
    expand(bound, &interfaces)
}

fn expand(bound: &[SocketAddr], interfaces: &[IpAddr]) -> BTreeSet<SocketAddr> {
    let mut own: BTreeSet<SocketAddr> = bound.iter().copied().filter(|b| !b.ip().is_unspecified()).collect();
    for wildcard in bound.iter().filter(|b| b.ip().is_unspecified()) {
        // `[::]` is bound for both families, 0.0.0.0 for its own alone.
        let reached = interfaces.iter().filter(|ip| wildcard.is_ipv6() || ip.is_ipv4());
        own.extend(reached.map(|ip| SocketAddr::new(*ip, wildcard.port())));
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn expanded(bound: &str) -> BTreeSet<SocketAddr> {
        let interfaces = ["127.0.0.1", "10.0.0.7", "fd00::7"].map(|ip| ip.parse().unwrap());
        expand(&[bound.parse().unwrap()], &interfaces)
    }

    #[test]
    fn a_wildcard_is_every_interface_of_the_families_it_serves() {
        assert_eq!(
            expanded("[::]:80"),
            addresses(&["127.0.0.1:80", "10.0.0.7:80", "[fd00::7]:80"])
        );
        assert_eq!(expanded("0.0.0.0:80"), addresses(&["127.0.0.1:80", "10.0.0.7:80"]));
    }

    #[test]
    fn a_single_address_is_itself_alone() {
        assert_eq!(expanded("10.0.0.7:80"), addresses(&["10.0.0.7:80"]));
    }

    #[test]
    fn the_loopback_interface_is_found() {
        let own = own_listeners(&["0.0.0.0:80".parse().unwrap()]);
        assert!(own.contains(&"127.0.0.1:80".parse().unwrap()), "{own:?}");
    }
}
