//! Where tenants' URLs may not lead: what Postern reaches because of where it runs, and the internet does not.

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
        is_public(ip) || allowing().next().is_some()
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

/// Whether an address is one of the internet at large. A cluster's pods and Services, a company's network and a cloud's
/// metadata service are not, however they are written.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // Azure's host, which answers its machines alone.
            v4 != Ipv4Addr::new(168, 63, 129, 16) && !NOT_PUBLIC_V4.iter().any(|net| within_v4(v4, *net))
        }
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public(v4.into()),
            // RFC 4291 section 2.4 and IANA: nothing else was given out for global unicast. Unique local, link-local,
            // site-local, multicast, loopback and IPv4-compatible addresses are outside.
            None => within_v6(v6, (0x2000, 0, 0, 3)) && !NOT_PUBLIC_V6.iter().any(|net| within_v6(v6, *net)),
        },
    }
}

/// What an IPv6 address stands for to a NAT64 (RFC 6052 section 2.1): in a cluster that has only IPv6, this is how servers that
/// have only IPv4 are reached.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [prefix @ .., high, low] = address.segments();
    (prefix == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// The IANA registry of special-purpose IPv4 addresses (RFC 6890), and multicast: address and prefix length.
const NOT_PUBLIC_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Shared by a provider's customers (RFC 6598); Alibaba's metadata service is there.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    // Benchmarks (RFC 2544).
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same within IPv6's global unicast: the first three groups and the prefix length.
const NOT_PUBLIC_V6: [(u16, u16, u16, u32); 4] = [
    // Protocols' own (RFC 2928): Teredo, benchmarks, ORCHID.
    (0x2001, 0, 0, 23),
    // Documentation (RFC 3849 and RFC 9637).
    (0x2001, 0xdb8, 0, 32),
    (0x3fff, 0, 0, 20),
    // 6to4 (RFC 3056): an IPv4 address follows, of whatever network.
    (0x2002, 0, 0, 16),
];

fn within_v4(address: Ipv4Addr, (network, length): ([u8; 4], u32)) -> bool {
    (u32::from(address) ^ u32::from_be_bytes(network)) >> (u32::BITS - length) == 0
}

fn within_v6(address: Ipv6Addr, (a, b, c, length): (u16, u16, u16, u32)) -> bool {
    let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
    (u128::from(address) ^ u128::from(network)) >> (u128::BITS - length) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

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
        let rules = rules(&["8.8.4.4:9090"], &[]);
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
            "8.8.4.4:9090",
            "[::ffff:8.8.4.4]:9090",
            "10.0.0.7:80",
            "[::ffff:10.0.0.7]:80",
            "172.31.255.255:80",
            "192.168.0.1:80",
            "100.127.0.1:80",
            "192.0.2.1:443",
            "[fd00::8]:80",
            "[fd20:ce::254]:80",
            "[fec0::1]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[64:ff9b::7f00:1]:80",
            "[64:ff9b:1::808:808]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[2001:0:808:808::1]:80",
            "[::127.0.0.1]:80",
            "[::8.8.8.8]:80",
            "[2001:db8::1]:443",
            "[5f00::1]:80",
        ] {
            assert!(!allows(&rules, refused), "{refused}");
        }
        for allowed in [
            "8.8.4.4:80",
            "8.8.8.8:9090",
            "172.32.0.1:443",
            "100.128.0.1:443",
            "[2606:4700::1111]:443",
            "[2a00:1450::1]:443",
            "[64:ff9b::808:808]:443",
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

    /// What the standard library and plain comparisons of octets say, where the tables say the same by prefixes.
    fn is_public_naively(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                let special = v4.is_private()
                    || v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_documentation()
                    || v4.is_multicast()
                    || a == 0
                    || a >= 240
                    || (a == 100 && (64..128).contains(&b))
                    || (a == 198 && (b == 18 || b == 19))
                    || (a, b, c) == (192, 0, 0)
                    || (a, b, c) == (192, 88, 99);
                !special && v4.octets() != [168, 63, 129, 16]
            }
            IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), v6.segments()) {
                (Some(v4), _) => is_public_naively(v4.into()),
                (None, [0x64, 0xff9b, 0, 0, 0, 0, a, b]) => {
                    let [a, b] = [a, b].map(u16::to_be_bytes);
                    is_public_naively(Ipv4Addr::new(a[0], a[1], b[0], b[1]).into())
                }
                (None, [0x2001, second, ..]) => second >= 0x200 && second != 0xdb8,
                (None, [0x2002, ..]) => false,
                (None, [0x3fff, second, ..]) => second >= 0x1000,
                (None, [first, ..]) => (0x2000..0x4000).contains(&first),
            },
        }
    }

    proptest! {
        #[test]
        fn the_tables_say_what_plain_comparisons_say(
            octets in any::<[u8; 4]>(),
            first in select(vec![0, 10, 100, 127, 169, 172, 192, 198, 203, 224, 240, 255]),
            second in select(vec![0, 2, 16, 18, 19, 31, 51, 64, 88, 127, 168, 254]),
            prefix in select(vec!["::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "2001::", "2001:200::", "2001:db8::", "2002::",
                "3fff::", "3fff:1000::", "2606:4700::", "fd20:ce::", "fe80::", "fec0::", "ff02::", "5f00::"]),
            rest in any::<u32>(),
        ) {
            let v4 = Ipv4Addr::from(octets);
            let special = Ipv4Addr::new(first, second, octets[2], octets[3]);
            let prefix: Ipv6Addr = prefix.parse().unwrap();
            let v6 = Ipv6Addr::from(u128::from(prefix) | u128::from(rest));
            let carrying = Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(special)));
            for ip in [IpAddr::V4(v4), special.into(), v6.into(), carrying.into()] {
                prop_assert_eq!(is_public(ip), is_public_naively(ip), "{}", ip);
                prop_assert!(!(is_local(ip) && is_public(ip)), "{}", ip);
            }
        }
    }
}
