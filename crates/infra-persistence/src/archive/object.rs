//! An archived entity as bytes that say what they are.
//!
//! ```text
//! magic | header length u32 | header JSON | SHA-256 of all else | body, compressed
//! ```

use std::io;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    store::MAX_BODY,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"IPOBJ001";

/// The longest header in bytes.
const MAX_HEADER: usize = 64 * 1024;

/// What an archived entity says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) version: u64,
    pub(super) codec: u8,
    pub(super) schema: u32,
    pub(super) saved: Timestamp,
    pub(super) archived: Timestamp,
    pub(super) tags: Vec<String>,
    /// The length of the body before it was compressed.
    pub(super) length: u64,
    /// The dictionary that the body was compressed with.
    pub(super) dictionary: Option<String>,
}

/// A dictionary of zstd with its name.
#[derive(Debug)]
pub(super) struct Dictionary {
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _written = write!(text, "{byte:02x}").is_ok();
        text
    })
}

pub(super) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "read archived entity").detail(what)
}

/// Encodes an entity; returns the object and its digest.
pub(super) fn encode(
    header: &Header,
    body: &[u8],
    level: i32,
    dictionary: Option<&Dictionary>,
) -> Result<(Bytes, String)> {
    let failed =
        |cause: io::Error| Error::new(ErrorKind::Internal, "compress entity").because(cause);
    let compressed = match dictionary {
        None => zstd::bulk::compress(body, level),
        Some(own) => zstd::bulk::Compressor::with_dictionary(level, &own.bytes)
            .and_then(|mut compressor| compressor.compress(body)),
    };
    let compressed = compressed.map_err(failed)?;
    let text = serde_json::to_vec(header)
        .map_err(|cause| Error::new(ErrorKind::Invalid, "describe entity").because(cause))?;
    if MAX_HEADER < text.len() {
        return Err(Error::invalid("describe entity", "its key and tags are too long"));
    }
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let digest = digest(&text, &compressed);
    let object = [MAGIC, &length[..], &text, &digest, &compressed].concat();
    Ok((object.into(), hex(&digest)))
}

fn digest(header: &[u8], body: &[u8]) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(MAGIC);
    sha.update((header.len() as u64).to_le_bytes());
    sha.update(header);
    sha.update(body);
    sha.finalize().into()
}

/// An object that was read and checked, its body still compressed.
#[derive(Debug)]
pub(super) struct Sound<'a> {
    pub(super) header: Header,
    pub(super) digest: String,
    body: &'a [u8],
}

/// Checks an object.
pub(super) fn open(object: &[u8]) -> Result<Sound<'_>> {
    let parts = |object: &'_ [u8]| {
        let rest = object.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let header = rest.get(..length.min(MAX_HEADER + 1))?;
        let (own, body) = rest.get(length..)?.split_first_chunk::<32>()?;
        Some((header.len(), *own, object.len() - body.len()))
    };
    let (length, own, at) = parts(object).ok_or_else(|| corrupt("it is no archived entity"))?;
    let header = object.get(12..12 + length).unwrap_or_default();
    let body = object.get(at..).unwrap_or_default();
    if digest(header, body) != own {
        return Err(corrupt("it fails its digest"));
    }
    let header =
        serde_json::from_slice(header).map_err(|cause| corrupt("its header").because(cause))?;
    Ok(Sound { header, digest: hex(&own), body })
}

impl Sound<'_> {
    /// Decompresses the body, never beyond what a body may have.
    pub(super) fn payload(&self, dictionary: Option<&Dictionary>) -> Result<Payload> {
        let length = usize::try_from(self.header.length).unwrap_or(usize::MAX);
        if MAX_BODY < length {
            return Err(corrupt("its body is too long"));
        }
        let body = match dictionary {
            None => zstd::bulk::decompress(self.body, length),
            Some(own) => zstd::bulk::Decompressor::with_dictionary(&own.bytes)
                .and_then(|mut decompressor| decompressor.decompress(self.body, length)),
        };
        let body = body.map_err(|cause| corrupt("its body").because(cause))?;
        if body.len() != length {
            return Err(corrupt("its body has another length"));
        }
        let codec = CodecTag::from_byte(self.header.codec)?;
        Ok(Payload { codec, schema: self.header.schema, body: body.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            kind: "games".to_owned(),
            key: "67".to_owned(),
            version: 3,
            codec: CodecTag::Json.as_byte(),
            schema: 2,
            saved: Timestamp::from_millis(4),
            archived: Timestamp::from_millis(5),
            tags: vec!["ann".to_owned()],
            length: 11,
            dictionary: None,
        }
    }

    #[test]
    fn an_object_survives_its_bytes_and_each_flipped_bit_is_noticed() {
        let (object, digest) = encode(&header(), b"hello world", 3, None).unwrap();
        let sound = open(&object).unwrap();
        assert_eq!((&sound.header, &sound.digest), (&header(), &digest));
        let payload = sound.payload(None).unwrap();
        assert_eq!((payload.schema, payload.body.as_ref()), (2, &b"hello world"[..]));
        for bit in 0..object.len() * 8 {
            let mut changed = object.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&changed).unwrap_err().kind(), &ErrorKind::Corrupt, "bit {bit}");
        }
        for length in 0..object.len() {
            assert!(open(&object[..length]).is_err(), "cut to {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let forged = [&MAGIC[..], &bytes].concat();
            prop_assert!(open(&bytes).is_err());
            prop_assert!(open(&forged).is_err());
        }
    }
}
