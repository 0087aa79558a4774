//! What is known of a client from its handshake: an allow-list, never the whole request.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use infra_core::{context::Context, trace::TraceContext};

use crate::options::Options;

/// The most bytes of a user agent that are kept.
const MAX_AGENT: usize = 200;

/// What is known of a client from its handshake.
#[derive(Clone)]
pub struct Facts {
    pub(crate) peer: SocketAddr,
    pub(crate) address: IpAddr,
    pub(crate) path: Box<str>,
    pub(crate) query: Option<Box<str>>,
    pub(crate) agent: Option<Box<str>>,
    pub(crate) token: Option<Box<str>>,
    pub(crate) context: Context,
    pub(crate) protocol: Option<&'static str>,
    pub(crate) kept: Vec<(HeaderName, HeaderValue)>,
}

impl Facts {
    /// Creates the facts of a client of which only the address is known.
    #[cfg(test)]
    pub(crate) fn of_peer(peer: SocketAddr) -> Self {
        Self {
            peer,
            address: peer.ip(),
            path: Box::default(),
            query: None,
            agent: None,
            token: None,
            context: Context::default(),
            protocol: None,
            kept: Vec::new(),
        }
    }

    pub(crate) fn of_request<B>(options: &Options, request: &Request<B>, peer: SocketAddr) -> Self {
        let headers = request.headers();
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let names = options.kept_headers.iter();
        let kept = names.filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        let query = request.uri().query().filter(|_| options.keeps_query);
        Self {
            peer,
            address: client_address(options, headers, peer.ip()),
            path: request.uri().path().into(),
            query: query.map(Into::into),
            agent: text(header::USER_AGENT).map(|agent| agent.chars().take(MAX_AGENT).collect()),
            token: offered_token(options, headers),
            context: context_of(headers),
            protocol: None,
            kept: kept.collect(),
        }
    }

    /// Returns the address of the other end of the socket: the client, or a proxy before it.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the client's address: the peer's, or what a trusted proxy says of it.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the path of the request.
    pub const fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query of the request, if the options keep it. It may hold secrets.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns what the client calls itself, 200 characters at most.
    pub fn user_agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// Returns the token that was offered as a subprotocol, if the options name its prefix.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns the W3C trace context of the request.
    pub const fn trace(&self) -> Option<TraceContext> {
        self.context.trace_context()
    }

    /// Returns what the request says of the work that it is part of: its W3C trace context, trace
    /// state and baggage, within the W3C's limits. The client wrote it.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the subprotocol that was agreed on.
    pub const fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// Returns a header that the options keep.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.kept.iter().find(|(kept, _)| kept == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Queries, tokens and headers may be secrets, and this ends in logs.
        f.debug_struct("Facts")
            .field("address", &self.address)
            .field("path", &self.path)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// Returns the context that headers of the W3C tell of; what is malformed is not there.
fn context_of(headers: &HeaderMap) -> Context {
    // A list may be in several headers; ids may not, and two of them in one text are malformed.
    let text = |name: &str| {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
    };
    let mut context = Context::default();
    if let Ok(trace) = text("traceparent").trim().parse() {
        context = context.trace(trace);
    }
    context.with_headers(|name| Some(text(name)))
}

/// Returns the address of the nearest client that is not a trusted proxy.
///
/// Each proxy appends whom it heard to `X-Forwarded-For`, so it is read from its end, and only as
/// far as the speakers are trusted: what stands before was written by a client.
fn client_address(options: &Options, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let is_trusted = |address: IpAddr| options.proxies.contains(&address.to_canonical());
    let values = headers.get_all("x-forwarded-for").into_iter();
    let hops: Vec<&str> =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    let mut address = peer;
    for hop in hops.into_iter().rev() {
        if !is_trusted(address) {
            break;
        }
        let Ok(before) = hop.trim().parse() else { break };
        address = before;
    }
    address
}

fn offered_token(options: &Options, headers: &HeaderMap) -> Option<Box<str>> {
    let prefix = options.token_prefix?;
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut offers =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.find_map(|offer| offer.trim().strip_prefix(prefix)).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::OriginPolicy;

    fn options() -> Options {
        Options::new(OriginPolicy::same_host())
    }

    fn facts(options: &Options, headers: &[(&str, &str)]) -> Facts {
        let mut request = Request::get("/ws/7?secret=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = SocketAddr::from(([10, 0, 0, 1], 9));
        Facts::of_request(options, &request.body(()).unwrap(), peer)
    }

    #[test]
    fn proxies_are_believed_only_as_far_as_they_are_trusted() {
        let trusted = options().trust_proxies(["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap()));
        let check = |options: &Options, header: &str, wanted: &str| {
            let facts = facts(options, &[("x-forwarded-for", header)]);
            assert_eq!(facts.address(), wanted.parse::<IpAddr>().unwrap(), "{header}");
            assert_eq!(facts.peer().ip(), "10.0.0.1".parse::<IpAddr>().unwrap());
        };
        check(&options(), "203.0.113.9", "10.0.0.1");
        check(&trusted, "203.0.113.9", "203.0.113.9");
        check(&trusted, "1.1.1.1, 203.0.113.9", "203.0.113.9");
        check(&trusted, "203.0.113.9, 10.0.0.2", "203.0.113.9");
        check(&trusted, "203.0.113.9, nonsense", "10.0.0.1");
        check(&trusted, "2001:db8::1", "2001:db8::1");
    }

    #[test]
    fn only_what_the_options_name_is_kept_and_nothing_secret_is_shown() {
        let headers = [
            ("user-agent", "test-agent"),
            ("cookie", "secret"),
            ("x-tenant", "secret"),
            ("sec-websocket-protocol", "game.v1, bearer.secret"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "vendor=1"),
            ("baggage", "season=3"),
            ("baggage", "table=7"),
        ];
        let bare = facts(&options(), &headers);
        assert_eq!((bare.path(), bare.query(), bare.token()), ("/ws/7", None, None));
        assert_eq!(bare.user_agent(), Some("test-agent"));
        assert!(bare.trace().is_some() && bare.header(&header::COOKIE).is_none());
        let carried = bare.context().headers();
        let carried = ["tracestate", "baggage"].map(|name| carried[name].as_str());
        assert_eq!(carried, ["vendor=1", "season=3,table=7"]);
        let twice = [headers[4], headers[4], headers[5]];
        assert!(facts(&options(), &twice).context().headers().is_empty(), "of two traces none");
        let tenant = HeaderName::from_static("x-tenant");
        let all = options().keep_query().keep_header(tenant.clone()).token_prefix("bearer.");
        let facts = facts(&all, &headers);
        assert_eq!((facts.query(), facts.token()), (Some("secret=1"), Some("secret")));
        assert_eq!(facts.header(&tenant).unwrap(), "secret");
        assert!(!format!("{facts:?}").contains("secret"));
        assert_eq!(facts.protocol(), None);
    }

    #[test]
    fn a_long_user_agent_is_cut() {
        let facts = facts(&options(), &[("user-agent", &"x".repeat(5_000))]);
        assert_eq!(facts.user_agent().map(str::len), Some(MAX_AGENT));
    }
}
