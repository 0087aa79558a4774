//! The W3C trace context that crosses sockets, queues and stored events.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    random::Random,
};

/// A `traceparent`: which trace a piece of work belongs to and which span caused it.
///
/// It follows the W3C Recommendation "Trace Context" level 1, version 00.
///
/// ```
/// use infra_core::trace::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = header.parse()?;
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), header);
/// # Ok::<(), infra_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// Starts a new trace with its first span.
    pub fn root(random: &Random, sampled: bool) -> Self {
        let trace = (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64());
        Self { trace: trace.max(1), span: random.next_u64().max(1), flags: u8::from(sampled) }
    }

    /// Returns the context of a new span of the same trace.
    #[must_use]
    pub fn child(self, random: &Random) -> Self {
        Self { span: random.next_u64().max(1), ..self }
    }

    /// Puts a context together from its parts, as a store keeps them.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if an id is zero.
    pub fn from_parts(trace: u128, span: u64, flags: u8) -> Result<Self> {
        if trace == 0 || span == 0 {
            return Err(Error::invalid("read trace context", "an id is zero"));
        }
        Ok(Self { trace, span, flags })
    }

    /// Returns the flags.
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// Returns the trace's id.
    pub const fn trace_id(self) -> u128 {
        self.trace
    }

    /// Returns the span's id.
    pub const fn span_id(self) -> u64 {
        self.span
    }

    /// Returns whether the caller records this trace.
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = Error;

    /// Parses a `traceparent` header.
    ///
    /// A higher version than 00 is read by its first four fields, as the Recommendation asks.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &'static str| Error::invalid("parse traceparent", why);
        let mut fields = text.splitn(5, '-');
        let mut field = |length: usize, why| {
            fields.next().filter(|part| is_lower_hex(part, length)).ok_or_else(|| refuse(why))
        };
        let version = field(2, "version is not two hex digits")?;
        let trace = field(32, "trace id is not 32 hex digits")?;
        let span = field(16, "span id is not 16 hex digits")?;
        let flags = field(2, "flags are not two hex digits")?;
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return Err(refuse("version does not fit the fields"));
        }
        let context = Self {
            trace: u128::from_str_radix(trace, 16).unwrap_or(0),
            span: u64::from_str_radix(span, 16).unwrap_or(0),
            flags: u8::from_str_radix(flags, 16).unwrap_or(0),
        };
        match context {
            Self { trace: 0, .. } => Err(refuse("trace id is zero")),
            Self { span: 0, .. } => Err(refuse("span id is zero")),
            context => Ok(context),
        }
    }
}

impl TryFrom<String> for TraceContext {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

/// The members that a `tracestate` may have.
const STATE_MEMBERS: usize = 32;

/// The bytes of a `tracestate` that are passed on.
const STATE_BYTES: usize = 512;

/// A `tracestate`: what other systems attached to a trace. It is passed on as it came.
///
/// ```
/// use infra_core::trace::TraceState;
///
/// let state: TraceState = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".parse()?;
/// assert_eq!(state.as_str(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
/// assert!("no member".parse::<TraceState>().is_err());
/// # Ok::<(), infra_core::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// Returns the text; empty if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromStr for TraceState {
    type Err = Error;

    /// Reads the header: members `key=value` divided by commas, no key twice.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &'static str| Error::invalid("parse tracestate", why);
        if STATE_BYTES < text.len() {
            return Err(refuse("longer than 512 bytes"));
        }
        let members: Vec<&str> =
            text.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
        if STATE_MEMBERS < members.len() {
            return Err(refuse("more than 32 members"));
        }
        let mut keys = Vec::new();
        for member in &members {
            let (key, value) = member.split_once('=').ok_or_else(|| refuse("no member"))?;
            if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) {
                return Err(refuse("a member is malformed or there twice"));
            }
            keys.push(key);
        }
        Ok(Self((!members.is_empty()).then(|| Arc::from(members.join(",")))))
    }
}

fn is_state_key(key: &str) -> bool {
    let is_char = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, longest: usize, may_begin_with_digit: bool| {
        let begins = part.bytes().next().is_some_and(|byte| {
            byte.is_ascii_lowercase() || (may_begin_with_digit && byte.is_ascii_digit())
        });
        begins && part.len() <= longest && part.bytes().all(is_char)
    };
    match key.split_once('@') {
        Some((tenant, system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
        None => is_part(key, 256, false),
    }
}

fn is_state_value(value: &str) -> bool {
    let is_char = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= 256 && value.bytes().all(is_char)
}

fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    #[test]
    fn a_context_is_put_together_from_its_parts() {
        let context = TraceContext::root(&Random::seeded(1), true);
        let parts = (context.trace_id(), context.span_id(), context.flags());
        assert_eq!(TraceContext::from_parts(parts.0, parts.1, parts.2).unwrap(), context);
        assert!(TraceContext::from_parts(0, 1, 0).is_err());
        assert!(TraceContext::from_parts(1, 0, 0).is_err());
    }

    #[test]
    fn malformed_headers_are_refused() {
        let cases = [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-01"),
            format!("00-{TRACE}-01-extra"),
            format!("00-{TRACE}-1"),
            format!("00-{TRACE}-0g"),
            format!("00-{}-01", TRACE.to_uppercase()),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned(),
        ];
        for case in cases {
            assert!(case.parse::<TraceContext>().is_err(), "{case}");
        }
    }

    #[test]
    fn a_later_version_is_read_by_its_first_four_fields() {
        let context: TraceContext = format!("cc-{TRACE}-00-what-the-future").parse().unwrap();
        assert!(!context.is_sampled());
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let random = Random::seeded(2);
        let root = TraceContext::root(&random, true);
        let child = root.child(&random);
        assert_eq!(root.trace_id(), child.trace_id());
        assert_ne!(root.span_id(), child.span_id());
        assert!(child.is_sampled());
    }

    #[test]
    fn a_state_holds_well_formed_members_only() {
        let good = ["", "a=1", " a=1 , b=2", "fw529a3039@dt=FfAz", "a-_*/=x y", "a=1,,b=2"];
        let bad = ["a", "A=1", "1a=1", "a=1,a=2", "a=", "a=b=c", "a=\u{7}", "t@=1", "@s=1"];
        for text in good {
            assert!(text.parse::<TraceState>().is_ok(), "{text}");
        }
        for text in bad {
            assert!(text.parse::<TraceState>().is_err(), "{text}");
        }
        let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert!(many.parse::<TraceState>().is_err());
        assert!(format!("a={}", "x".repeat(600)).parse::<TraceState>().is_err());
        assert_eq!(" a=1 ,, b=2".parse::<TraceState>().unwrap().as_str(), "a=1,b=2");
        assert_eq!(TraceState::default().as_str(), "");
    }

    proptest! {
        #[test]
        fn any_state_is_parsed_or_refused_without_a_panic(text in ".{0,80}") {
            if let Ok(state) = text.parse::<TraceState>() {
                prop_assert_eq!(state.as_str().parse::<TraceState>().unwrap(), state);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,80}") {
            if let Ok(context) = text.parse::<TraceContext>() {
                prop_assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);
            }
        }
    }
}
