//! A document as checksummed bytes.
//!
//! ```text
//! crc32c(rest) u32 | version u64 | written u64 | codec u8 | schema u32 | terms u32
//! | per term: index text, value, unique u8 | body to the end
//! ```

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    id::IndexName,
    store::{Document, Term},
    version::Version,
};

/// Encodes a document without its key; `at` is where it will stand, and is checked with it.
pub(crate) fn encode(document: &Document, at: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(document.version.get().to_le_bytes());
    out.extend(document.written.as_millis().to_le_bytes());
    out.push(document.payload.codec.as_byte());
    out.extend(document.payload.schema.to_le_bytes());
    out.extend(length(document.terms.len()));
    for term in &document.terms {
        for bytes in [term.index.as_str().as_bytes(), &term.value] {
            out.extend(length(bytes.len()));
            out.extend_from_slice(bytes);
        }
        out.push(u8::from(term.is_unique));
    }
    out.extend_from_slice(&document.payload.body);
    let checksum = checksum(at, out.get(4..).unwrap_or_default());
    if let Some(head) = out.first_chunk_mut::<4>() {
        *head = checksum.to_le_bytes();
    }
    out
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// The place is part of the checksum, so that a value under another key is noticed.
fn checksum(at: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(at), rest)
}

/// Decodes the value that stands at `at` as the document of `key`.
pub(crate) fn decode(key: &[u8], at: &[u8], value: &[u8]) -> Result<Document> {
    let corrupt = |what: &str| {
        let detail = format!("document {}: {what}", key.escape_ascii());
        Error::new(ErrorKind::Corrupt, "read document").detail(detail)
    };
    let (own, rest) = value.split_first_chunk::<4>().ok_or_else(|| corrupt("it is too short"))?;
    if checksum(at, rest) != u32::from_le_bytes(*own) {
        return Err(corrupt("it fails its checksum"));
    }
    let mut input = In(rest);
    let read = |input: &mut In<'_>| -> Option<Document> {
        let version = Version::new(u64::from_le_bytes(input.array()?));
        let written = Timestamp::from_millis(u64::from_le_bytes(input.array()?));
        let codec = CodecTag::from_byte(input.array::<1>()?[0]).ok()?;
        let schema = u32::from_le_bytes(input.array()?);
        let n_terms = u32::from_le_bytes(input.array()?);
        let mut terms = Vec::new();
        for _ in 0..n_terms {
            let index = IndexName::new(std::str::from_utf8(input.bytes()?).ok()?).ok()?;
            let value = Bytes::copy_from_slice(input.bytes()?);
            let is_unique = input.array::<1>()?[0] == 1;
            terms.push(Term { index, value, is_unique });
        }
        let payload = Payload { codec, schema, body: Bytes::copy_from_slice(input.0) };
        Some(Document { key: Bytes::copy_from_slice(key), version, payload, terms, written })
    };
    read(&mut input).ok_or_else(|| corrupt("its format is broken"))
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.array()?)).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> Document {
        let index = || IndexName::new("code").unwrap();
        Document {
            key: Bytes::from("room-1"),
            version: Version::new(3),
            payload: Payload::json(2, "body").unwrap(),
            terms: vec![Term::unique(index(), "ABCD"), Term::new(index(), "")],
            written: Timestamp::from_millis(99),
        }
    }

    #[test]
    fn a_document_survives_its_bytes_and_each_flipped_bit_is_noticed() {
        let value = encode(&document(), b"at");
        assert_eq!(decode(b"room-1", b"at", &value).unwrap(), document());
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = decode(b"room-1", b"at", &changed).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corrupt);
        }
        assert!(decode(b"room-1", b"elsewhere", &value).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(decode(b"k", b"at", &bytes).is_err());
            // With the right checksum the format is what is left to be wrong.
            let mut sound = checksum(b"at", &bytes).to_le_bytes().to_vec();
            sound.extend(&bytes);
            let _decoded = decode(b"k", b"at", &sound);
        }
    }
}
