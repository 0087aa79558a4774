//! Names of archived objects: from a name alone it is known what an object holds.
//!
//! ```text
//! <prefix>/<stream, escaped, in parts of 100 letters>/=<first version>-<last>-<first position>-<last>
//! <prefix>/<stream>/=before-<version>       versions below it are gone for good
//! ```

use infra_core::{
    id::StreamName,
    version::{Position, Version},
};

/// How long a part of a name gets; file systems take 255 bytes.
const PART: usize = 100;

/// What an archived segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) first: Version,
    pub(super) last: Version,
    pub(super) from: Position,
    pub(super) to: Position,
}

/// What an object of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Segment(Extent),
    Before(Version),
}

/// Returns the folder of a stream's objects.
pub(super) fn folder(prefix: &str, stream: &StreamName) -> String {
    let mut escaped = String::new();
    for byte in stream.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(char::from(byte)),
            _ => escaped.extend(hex(byte)),
        }
    }
    let mut name = prefix.to_owned();
    for (number, letter) in escaped.chars().enumerate() {
        if number % PART == 0 {
            name.push('/');
        }
        name.push(letter);
    }
    name
}

/// Returns a byte as `%` and two digits.
fn hex(byte: u8) -> [char; 3] {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    ['%', digit(byte >> 4), digit(byte & 15)]
}

pub(super) fn object(prefix: &str, stream: &StreamName, kind: Kind) -> String {
    let folder = folder(prefix, stream);
    match kind {
        Kind::Segment(Extent { first, last, from, to }) => {
            let (first, last, from, to) = (first.get(), last.get(), from.get(), to.get());
            format!("{folder}/={first:020}-{last:020}-{from:020}-{to:020}")
        }
        Kind::Before(version) => format!("{folder}/=before-{:020}", version.get()),
    }
}

/// Reads a name; `None` if it is none of ours.
pub(super) fn parse(prefix: &str, name: &str) -> Option<(StreamName, Kind)> {
    let (folder, leaf) = name.strip_prefix(prefix)?.strip_prefix('/')?.rsplit_once("/=")?;
    let mut bytes = Vec::new();
    let mut letters = folder.bytes().filter(|letter| *letter != b'/');
    while let Some(letter) = letters.next() {
        if letter != b'%' {
            bytes.push(letter);
            continue;
        }
        let digit = |letter: u8| char::from(letter).to_digit(16);
        let (high, low) = (digit(letters.next()?)?, digit(letters.next()?)?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    let stream = StreamName::new(String::from_utf8(bytes).ok()?).ok()?;
    if let Some(version) = leaf.strip_prefix("before-") {
        return Some((stream, Kind::Before(Version::new(version.parse().ok()?))));
    }
    let mut numbers = leaf.split('-').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    let (first, last) = (Version::new(next()?), Version::new(next()?));
    let (from, to) = (Position::new(next()?), Position::new(next()?));
    Some((stream, Kind::Segment(Extent { first, last, from, to })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_of_a_stream_is_read_back() {
        let extent = Extent {
            first: Version::new(1),
            last: Version::new(40),
            from: Position::new(7),
            to: Position::new(u64::MAX),
        };
        let long = "x/.. %é".repeat(22);
        for stream in ["room-1", "a/b", "..", "%41", long.as_str()] {
            let stream = StreamName::new(stream).unwrap();
            for kind in [Kind::Segment(extent), Kind::Before(Version::new(9))] {
                let name = object("events", &stream, kind);
                let parts: Vec<&str> = name.split('/').collect();
                assert!(parts.iter().all(|part| part.len() < 120 && *part != ".."), "{name}");
                assert_eq!(parse("events", &name), Some((stream.clone(), kind)));
            }
        }
        assert_eq!(parse("events", "events/room/other"), None);
        assert_eq!(parse("events", "games/room/=before-1"), None);
        assert_eq!(parse("events", "events/%zz/=before-1"), None);
    }
}
