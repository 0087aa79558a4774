//! The networks that an address belongs to: what stands for keys that cannot be kept one by one.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the key under which an address pays: itself, or its /64 for IPv6, since one subscriber
/// has all of that.
///
/// ```
/// use infra_ratelimit::address_key;
///
/// assert_eq!(address_key("203.0.113.7".parse()?), "203.0.113.7");
/// assert_eq!(address_key("::ffff:203.0.113.7".parse()?), "203.0.113.7");
/// assert_eq!(address_key("2001:db8:1:2:3::4".parse()?), "2001:db8:1:2::/64");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => network(address, 64),
    }
}

/// Returns the networks around a key, the nearest first: /24 of IPv4; /64 and /48 of IPv6, or /48 and
/// /32 of what is a /64 already; none for a key that is no address.
pub(crate) fn networks(key: &str) -> [Option<String>; 2] {
    let (address, bits) = key.strip_suffix("/64").map_or((key, [64, 48]), |key| (key, [48, 32]));
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            let [first, second, third, _] = address.octets();
            [Some(format!("{first}.{second}.{third}.0/24")), None]
        }
        Ok(IpAddr::V6(address)) => bits.map(|bits| Some(network(address, bits))),
        Err(_) => [None, None],
    }
}

fn network(address: Ipv6Addr, bits: u32) -> String {
    let kept = address.to_bits() >> (128 - bits) << (128 - bits);
    format!("{}/{bits}", Ipv6Addr::from_bits(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_its_networks_and_anything_else_to_none() {
        let check = |key: &str, wanted: [Option<&str>; 2]| {
            assert_eq!(networks(key), wanted.map(|network| network.map(str::to_owned)), "{key}");
        };
        check("203.0.113.7", [Some("203.0.113.0/24"), None]);
        check("::ffff:203.0.113.7", [Some("203.0.113.0/24"), None]);
        check("2001:db8:1:2:3::4", [Some("2001:db8:1:2::/64"), Some("2001:db8:1::/48")]);
        check("2001:db8:1:2::/64", [Some("2001:db8:1::/48"), Some("2001:db8::/32")]);
        check("ann", [None, None]);
        check("203.0.113.7/64", [Some("203.0.113.0/24"), None]);
    }
}
