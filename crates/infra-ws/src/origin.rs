//! Which pages may connect, decided by the `Origin` header (RFC 6454, RFC 6455 section 10.2).

use std::{fmt, net::IpAddr};

/// Which pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPolicy(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    SameHost,
    Listed(Vec<String>),
}

/// A page that may not connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRefused {
    origin: String,
    why: &'static str,
}

impl fmt::Display for OriginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "origin {:?}: {}", self.origin, self.why)
    }
}

impl std::error::Error for OriginRefused {}

impl OriginPolicy {
    /// Admits pages of the same host and port as the request, on loopback only.
    ///
    /// Elsewhere the `Host` header proves nothing (DNS rebinding), so origins must be listed.
    pub const fn same_host() -> Self {
        Self(Rule::SameHost)
    }

    /// Admits pages of these origins, such as `https://play.example.org`.
    pub fn listed(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lower = |origin: String| origin.trim_end_matches('/').to_ascii_lowercase();
        Self(Rule::Listed(origins.into_iter().map(Into::into).map(lower).collect()))
    }

    /// Judges a request by its `Origin` and `Host` headers and the client's address.
    ///
    /// A request without `Origin` does not come from a page, so there is no page to protect; it is
    /// admitted, and authentication decides.
    ///
    /// # Errors
    ///
    /// The origin and why it may not connect.
    pub fn judge(
        &self,
        origin: Option<&str>,
        host: Option<&str>,
        peer: IpAddr,
    ) -> Result<(), OriginRefused> {
        let Some(origin) = origin else { return Ok(()) };
        let refuse = |why| Err(OriginRefused { origin: origin.chars().take(200).collect(), why });
        let lower = origin.to_ascii_lowercase();
        match &self.0 {
            Rule::Listed(listed) if listed.contains(&lower) => Ok(()),
            Rule::Listed(_) => refuse("it is not listed"),
            Rule::SameHost if !peer.is_loopback() => refuse("no origin is listed"),
            Rule::SameHost => {
                let own = host.map(str::to_ascii_lowercase).filter(|host| is_loopback(host));
                let page = lower.strip_prefix("http://").or(lower.strip_prefix("https://"));
                match (own, page) {
                    (Some(own), Some(page)) if own == page => Ok(()),
                    _ => refuse("it is not the server's own on loopback"),
                }
            }
        }
    }
}

/// Returns whether a `Host` header names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_servers_own_pages_on_loopback_are_admitted_by_default() {
        let policy = OriginPolicy::same_host();
        let judge = |origin, host| policy.judge(Some(origin), Some(host), HERE).is_ok();
        assert!(judge("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(judge("http://LOCALHOST:8080", "localhost:8080"));
        assert!(judge("http://[::1]:8080", "[::1]:8080"));
        assert!(!judge("http://127.0.0.1:9000", "127.0.0.1:8080"), "another port");
        assert!(!judge("http://evil.example", "127.0.0.1:8080"));
        assert!(!judge("http://evil.example", "evil.example"), "DNS rebinding");
        assert!(!judge("http://localhost.evil.example", "localhost.evil.example"));
        assert!(!judge("null", "127.0.0.1:8080"));
        assert!(policy.judge(None, Some("127.0.0.1:8080"), HERE).is_ok(), "no page at all");
        let far = "203.0.113.7".parse().unwrap();
        assert!(policy.judge(Some("http://x"), Some("x"), far).is_err());
    }

    #[test]
    fn listed_origins_are_admitted_whole_and_no_others() {
        let policy = OriginPolicy::listed(["https://Play.example.org/"]);
        let far: IpAddr = "203.0.113.7".parse().unwrap();
        let judge = |origin| policy.judge(Some(origin), Some("play.example.org"), far);
        assert!(judge("https://play.example.org").is_ok());
        for origin in ["http://play.example.org", "https://play.example.org.evil", "null", ""] {
            assert!(judge(origin).is_err(), "{origin}");
        }
        assert_eq!(
            judge("https://b.example").unwrap_err().to_string(),
            "origin \"https://b.example\": it is not listed"
        );
    }
}
