//! Which address a request came from, when proxies stand before the service.

use std::net::IpAddr;

use http::HeaderMap;
use infra_core::{Error, Result};

/// How many hops of a header are looked at.
const MOST_HOPS: usize = 32;

/// A network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u128,
    bits: u32,
}

/// The proxies that are believed when they name who is behind them, and how it came.
///
/// The peer of the connection is the client, unless it is one of these; then it is the rightmost
/// entry of `X-Forwarded-For` that is not one of them. What stands further left was written by the
/// client itself and is never looked at.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use infra_ratelimit::tower::Proxies;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 203.0.113.7"));
/// let peer = "10.0.0.2".parse().unwrap();
/// assert_eq!(Proxies::none().client(peer, &headers), peer);
/// let proxies = Proxies::new(["10.0.0.0/8"])?;
/// assert_eq!(proxies.client(peer, &headers).to_string(), "203.0.113.7");
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Believes nobody: the client is the peer.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Believes the proxies in these networks, each an address or as in `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for what is no network.
    pub fn new(networks: impl IntoIterator<Item: AsRef<str>>) -> Result<Self> {
        let networks = networks.into_iter().map(|network| Network::parse(network.as_ref()));
        networks.collect::<Result<_>>().map(Self)
    }

    /// Returns the address of the client.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>();
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
        for hop in hops.take(MOST_HOPS) {
            if !self.trusts(client) {
                break;
            }
            match address(hop.trim()) {
                Some(behind) => client = behind.to_canonical(),
                // What a proxy wrote and cannot be read hides who is behind it: the proxy pays.
                None => break,
            }
        }
        client
    }

    /// Returns whether the client came by TLS: the peer is one of these proxies, and says so in
    /// `X-Forwarded-Proto`. Of several values the last counts: those before it may be the client's own.
    pub fn is_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let last = headers.get_all("x-forwarded-proto").iter().next_back();
        let scheme = last.and_then(|line| line.to_str().ok()?.rsplit(',').next());
        self.trusts(peer) && scheme.is_some_and(|said| said.trim().eq_ignore_ascii_case("https"))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }
}

/// Reads an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let whole = text.parse().ok();
    whole.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// IPv4 as it is mapped into IPv6, so that both are one kind of number.
const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("read proxy network", format!("{text:?} is none"));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let (width, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.unwrap_or(width);
        if width < bits {
            return Err(invalid());
        }
        Ok(Self { address: number(address), bits: bits + offset })
    }

    fn has(self, address: IpAddr) -> bool {
        let differing = number(address) ^ self.address;
        self.bits <= differing.leading_zeros()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(proxies: &[&str], peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        let proxies = Proxies::new(proxies.iter().copied()).unwrap();
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let spoofed = ["6.6.6.6", "203.0.113.7, 10.0.0.9"];
        assert_eq!(client(&[], "198.51.100.1", &spoofed), "198.51.100.1");
        assert_eq!(client(&["10.0.0.0/8"], "198.51.100.1", &spoofed), "198.51.100.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &spoofed), "203.0.113.7");
        assert_eq!(client(&["10.0.0.0/8"], "::ffff:10.1.2.3", &spoofed), "203.0.113.7");
        assert_eq!(client(&["10.1.2.3"], "10.1.2.3", &spoofed), "10.0.0.9");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &["6.6.6.6, unknown"]), "10.1.2.3");
        assert_eq!(client(&["fd00::/8"], "fd00::1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client(&["0.0.0.0/0"], "10.1.2.3", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_the_client_came_by_tls() {
        let proxies = Proxies::new(["10.0.0.0/8"]).unwrap();
        for (peer, lines, expected) in [
            ("10.1.2.3", &["https"] as &[_], true),
            ("::ffff:10.1.2.3", &["HTTPS"], true),
            ("10.1.2.3", &["http, https"], true),
            ("10.1.2.3", &["https", "http"], false),
            ("10.1.2.3", &["https, http"], false),
            ("10.1.2.3", &["http"], false),
            ("10.1.2.3", &[], false),
            ("11.1.2.3", &["https"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-proto", HeaderValue::from_static(line));
            }
            let peer = peer.parse().unwrap();
            assert_eq!(proxies.is_tls(peer, &headers), expected, "{peer} {lines:?}");
            assert!(!Proxies::none().is_tls(peer, &headers));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "example.org", "10.0.0/8"] {
            assert!(Proxies::new([text]).unwrap_err().to_string().contains("is none"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_the_header_yield_an_address(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert("x-forwarded-for", value);
            }
            let proxies = Proxies::new(["10.0.0.0/8"]).unwrap();
            let peer: IpAddr = "10.1.2.3".parse().unwrap();
            let client = proxies.client(peer, &headers);
            prop_assert!(client == peer || headers.contains_key("x-forwarded-for"));
        }
    }
}
