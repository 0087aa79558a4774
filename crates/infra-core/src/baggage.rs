//! W3C baggage: a few names and values that travel with a piece of work.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use crate::error::{Error, Result};

/// The most entries.
pub const MAX_ENTRIES: usize = 64;

/// The most bytes of the header.
pub const MAX_BYTES: usize = 8_192;

/// Names with values, as in the W3C Recommendation "Propagation format for distributed context:
/// Baggage". Properties of members are not kept.
///
/// A value of this type never changes: `with` returns another one, so what a child adds is not
/// seen by its parent. It is not for secrets: it is sent to whoever is called, and logged.
///
/// ```
/// use infra_core::baggage::Baggage;
///
/// let baggage = Baggage::default().with("user", "test")?.with("step", "a b")?;
/// assert_eq!(baggage.to_string(), "step=a%20b,user=test");
/// assert_eq!("step=a%20b,user=test".parse::<Baggage>()?, baggage);
/// # Ok::<(), infra_core::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baggage(Option<Arc<BTreeMap<String, String>>>);

impl Baggage {
    /// Returns this baggage with one more entry; a value under the same name is replaced.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if the name is no token of RFC 9110, or if it
    /// would have more than 64 entries or 8,192 bytes.
    pub fn with(&self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        if !is_token(&name) {
            return Err(Error::invalid("add to baggage", "the name is no token"));
        }
        let mut entries = self.0.as_deref().cloned().unwrap_or_default();
        entries.insert(name, value);
        let baggage = Self(Some(Arc::new(entries)));
        if MAX_ENTRIES < baggage.iter().count() || MAX_BYTES < baggage.to_string().len() {
            return Err(Error::invalid("add to baggage", "it would be too large"));
        }
        Ok(baggage)
    }

    /// Returns the value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Returns all entries in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.0.iter().flat_map(|entries| entries.iter());
        entries.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Display for Baggage {
    /// Writes the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{name}=")?;
            for byte in value.bytes() {
                if is_baggage_octet(byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Baggage {
    type Err = Error;

    /// Reads the header; properties after a semicolon are left out.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &'static str| Error::invalid("parse baggage", why);
        if MAX_BYTES < text.len() {
            return Err(refuse("longer than 8,192 bytes"));
        }
        let mut entries = BTreeMap::new();
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let pair = member.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').ok_or_else(|| refuse("no member"))?;
            let (name, value) = (name.trim(), value.trim());
            if !is_token(name) {
                return Err(refuse("a name is no token"));
            }
            let value = decode(value).ok_or_else(|| refuse("a value is malformed"))?;
            entries.insert(name.to_owned(), value);
            if MAX_ENTRIES < entries.len() {
                return Err(refuse("more than 64 entries"));
            }
        }
        Ok(Self((!entries.is_empty()).then(|| Arc::new(entries))))
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(is_baggage_octet(byte).then_some(byte)?);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        bytes.push(digit()? * 16 + digit()?);
    }
    String::from_utf8(bytes).ok()
}

/// Printable ASCII without space, quote, comma, semicolon, backslash; the percent sign escapes.
const fn is_baggage_octet(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'%')
}

fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_char)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_the_recommendation_are_read() {
        let text = "key1=value1;property1;property2, key2 = value2, key3=value3; k=v";
        let baggage: Baggage = text.parse().unwrap();
        assert_eq!(baggage.to_string(), "key1=value1,key2=value2,key3=value3");
        let text = "serverNode=DF%2028,userId=Am%C3%A9lie,isProduction=false";
        let baggage: Baggage = text.parse().unwrap();
        assert_eq!(baggage.get("userId"), Some("Am\u{e9}lie"));
        assert_eq!(baggage.get("serverNode"), Some("DF 28"));
        assert!("".parse::<Baggage>().unwrap().is_empty());
    }

    #[test]
    fn what_is_malformed_or_too_large_is_refused() {
        for text in ["a", "=1", "a b=1", "a=%4", "a=%zz", "a=%ff", "a=\"x\"", "\u{e9}=1"] {
            assert!(text.parse::<Baggage>().is_err(), "{text}");
        }
        let many = (0..65).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert!(many.parse::<Baggage>().is_err());
        assert!(format!("a={}", "x".repeat(9_000)).parse::<Baggage>().is_err());
        let full = (0..64).try_fold(Baggage::default(), |all, n| all.with(format!("k{n}"), ""));
        assert!(full.unwrap().with("more", "").is_err());
        assert!(Baggage::default().with("a", "\u{e9}".repeat(3_000)).is_err());
        assert!(Baggage::default().with("a b", "1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            entries in proptest::collection::btree_map("[a-z]{1,8}", ".{0,20}", 0..8),
        ) {
            let mut baggage = Baggage::default();
            for (name, value) in &entries {
                baggage = baggage.with(name, value).unwrap();
            }
            prop_assert_eq!(baggage.to_string().parse::<Baggage>().unwrap(), baggage);
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,120}") {
            if let Ok(baggage) = text.parse::<Baggage>() {
                prop_assert_eq!(baggage.to_string().parse::<Baggage>().unwrap(), baggage);
            }
        }
    }
}
