//! The address by which a client's share is counted.

use std::net::IpAddr;

/// Whom an address stands for where clients have shares: in IPv6 one client has a whole /64 to choose from.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::client_network;

    #[test]
    fn an_address_of_ipv6_stands_for_its_network() {
        let of = |text: &str| client_network(text.parse().expect("an address")).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(
            (of("::ffff:192.0.2.1"), of("192.0.2.1")),
            ("192.0.2.1".into(), "192.0.2.1".into())
        );
    }
}
