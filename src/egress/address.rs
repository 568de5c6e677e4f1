//! Where tenants' URLs may not lead: what is reachable for Postern alone because of where it runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Which addresses a tenant's URL may lead to.
#[derive(Debug, Default)]
pub struct Rules {
    /// Our own listeners, on each of our interfaces.
    pub own: BTreeSet<SocketAddr>,
    /// By `allowEgress`.
    pub allowed: Box<[IpNet]>,
}

impl Rules {
    /// Checks a resolved address. The caller connects to this very address: the name may resolve to another a moment later.
    pub fn allow(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let allowing = || self.allowed.iter().filter(|network| network.contains(&ip));
        if self.own.contains(&SocketAddr::new(ip, address.port())) {
            // Only where the address itself is listed: that of all of a network's is no word about Postern.
            return allowing().any(|network| network.prefix_len() == network.max_prefix_len());
        }
        !(is_local(ip) || METADATA.contains(&ip)) || allowing().next().is_some()
    }
}

/// Addresses that mean the machine or the link that Postern is on: the admin port, a node's agents and a cloud's metadata
/// service are there.
pub fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                // RFC 1122 section 3.2.1.3: all of 0.0.0.0/8 means "this host on this network".
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

/// Metadata services that are not link-local: Alibaba's, Azure's host and, in IPv6, that of AWS.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(own: &[&str], allowed: &[&str]) -> Rules {
        Rules {
            own: own.iter().map(|own| own.parse().unwrap()).collect(),
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        }
    }

    fn allows(rules: &Rules, address: &str) -> bool {
        rules.allow(address.parse().unwrap())
    }

    #[test]
    fn what_only_postern_can_reach_is_refused_in_every_spelling() {
        let rules = rules(&["10.0.0.7:9090"], &[]);
        for refused in [
            "127.0.0.1:80",
            "127.8.8.8:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::]:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:169.254.169.254]:80",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "10.0.0.7:9090",
            "[::ffff:10.0.0.7]:9090",
        ] {
            assert!(!allows(&rules, refused), "{refused}");
        }
        for allowed in [
            "10.0.0.7:80",
            "10.0.0.8:9090",
            "192.0.2.1:443",
            "[fd00::8]:80",
            "[2001:db8::1]:443",
        ] {
            assert!(allows(&rules, allowed), "{allowed}");
        }
    }

    #[test]
    fn what_the_operator_lists_is_allowed() {
        let rules = rules(&[], &["127.0.0.0/8", "fe80::/10"]);
        assert!(allows(&rules, "127.0.0.1:80"));
        assert!(allows(&rules, "[::ffff:127.0.0.1]:80"));
        assert!(allows(&rules, "[fe80::1]:80"));
        assert!(!allows(&rules, "[::1]:80"));
        assert!(!allows(&rules, "169.254.169.254:80"));
    }

    #[test]
    fn an_own_listener_is_allowed_by_its_own_address_alone() {
        let own = ["127.0.0.1:9090", "10.0.0.7:9090"];
        assert!(!allows(&rules(&own, &["127.0.0.0/8"]), "127.0.0.1:9090"));
        assert!(!allows(&rules(&own, &["10.0.0.0/8"]), "10.0.0.7:9090"));
        assert!(allows(&rules(&own, &["10.0.0.7/32"]), "10.0.0.7:9090"));
    }
}
