//! How values become bytes: each stored value names its codec and its schema version.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, ErrorKind, Result};

/// The codec of a stored value, as one byte on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CodecTag {
    /// JSON (RFC 8259): for what must evolve or cannot be rebuilt.
    Json,
    /// bincode 2, standard configuration: for what can be rebuilt, on the wire of one version.
    Bincode,
    /// `MessagePack`.
    MessagePack,
    /// Bytes that only the caller understands.
    Raw,
}

impl CodecTag {
    /// Returns the byte that stands for the codec in stored records.
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Json => 1,
            Self::Bincode => 2,
            Self::MessagePack => 3,
        }
    }

    /// Reads a stored byte.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the byte stands for no codec.
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Json),
            2 => Ok(Self::Bincode),
            3 => Ok(Self::MessagePack),
            unknown => Err(Error::new(ErrorKind::Corrupt, "read codec tag")
                .detail(format!("unknown tag {unknown}"))),
        }
    }
}

/// A value as bytes, with what is needed to read it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payload {
    /// How the body is encoded.
    pub codec: CodecTag,
    /// The version of the body's schema; the writer's, counted from 1.
    pub schema: u32,
    /// The encoded value.
    pub body: Bytes,
}

impl Payload {
    /// Encodes `value` as JSON under schema version `schema`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the value cannot be written as JSON (a map with keys that are not
    /// text, a failing `Serialize`).
    pub fn json<T: Serialize + ?Sized>(schema: u32, value: &T) -> Result<Self> {
        Self::encode::<Json, T>(schema, value)
    }

    /// Encodes `value` with the codec `C` under schema version `schema`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the value cannot be written in that codec.
    pub fn encode<C: Codec, T: Serialize + ?Sized>(schema: u32, value: &T) -> Result<Self> {
        Ok(Self { codec: C::TAG, schema, body: C::encode(value)? })
    }

    /// Wraps bytes that only the caller understands.
    pub fn raw(body: impl Into<Bytes>) -> Self {
        Self { codec: CodecTag::Raw, schema: 1, body: body.into() }
    }

    /// Decodes the body with the codec it names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the body does not decode as `T`; [`ErrorKind::Unsupported`] if
    /// the codec is not built in.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        match self.codec {
            CodecTag::Json => Json::decode(&self.body),
            #[cfg(feature = "bincode")]
            CodecTag::Bincode => Bincode::decode(&self.body),
            other => Err(Error::new(ErrorKind::Unsupported, "decode payload")
                .detail(format!("codec {other:?} is not built in"))),
        }
    }
}

/// A codec chosen at compile time.
///
/// ```
/// use infra_core::codec::{Codec, Json};
///
/// let bytes = Json::encode(&[1, 2])?;
/// assert_eq!(&bytes[..], b"[1,2]");
/// assert_eq!(Json::decode::<Vec<u8>>(&bytes)?, [1, 2]);
/// # Ok::<(), infra_core::error::Error>(())
/// ```
///
/// # Contract
///
/// 1. **Round trip:** what was encoded decodes to an equal value.
/// 2. **Whole:** trailing bytes are refused.
/// 3. **Bounded:** decoding allocates no more than a small multiple of the input's length.
pub trait Codec {
    /// What stored values call this codec.
    const TAG: CodecTag;

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the codec cannot express the value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes>;

    /// Decodes a value that fills `bytes` exactly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the bytes are not a `T` in this codec.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T>;
}

/// JSON. Nesting deeper than 128 is refused.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const TAG: CodecTag = CodecTag::Json;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|cause| Error::new(ErrorKind::Invalid, "encode JSON").because(cause))
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|cause| Error::new(ErrorKind::Corrupt, "decode JSON").because(cause))
    }
}

/// bincode 2 in its standard configuration, for at most 16 MiB.
#[cfg(feature = "bincode")]
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

#[cfg(feature = "bincode")]
impl Codec for Bincode {
    const TAG: CodecTag = CodecTag::Bincode;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
        bincode::serde::encode_to_vec(value, bincode::config::standard())
            .map(Bytes::from)
            .map_err(|cause| Error::new(ErrorKind::Invalid, "encode bincode").because(cause))
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
        let config = bincode::config::standard().with_limit::<{ 16 * 1024 * 1024 }>();
        let refuse = || Error::new(ErrorKind::Corrupt, "decode bincode");
        let (value, used) = bincode::serde::decode_from_slice(bytes, config)
            .map_err(|cause| refuse().because(cause))?;
        if used < bytes.len() {
            return Err(refuse().detail(format!("{} trailing bytes", bytes.len() - used)));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_tag_survives_its_byte_and_unknown_ones_are_corrupt() {
        for byte in 0..=u8::MAX {
            match CodecTag::from_byte(byte) {
                Ok(tag) => assert_eq!(tag.as_byte(), byte),
                Err(error) => assert_eq!(error.kind(), &ErrorKind::Corrupt),
            }
        }
    }

    #[test]
    fn a_codec_that_is_not_built_in_is_unsupported() {
        let payload = Payload::raw(&b"x"[..]);
        assert_eq!(payload.decode::<u8>().unwrap_err().kind(), &ErrorKind::Unsupported);
    }

    #[test]
    fn trailing_and_deeply_nested_json_is_refused() {
        assert!(Json::decode::<u8>(b"1 2").is_err());
        let deep = "[".repeat(100_000);
        assert!(Json::decode::<serde_json::Value>(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_map_without_text_keys_is_no_json() {
        let map = std::collections::BTreeMap::from([(vec![1_u8], 2_u8)]);
        assert_eq!(Json::encode(&map).unwrap_err().kind(), &ErrorKind::Invalid);
    }

    #[cfg(feature = "bincode")]
    #[test]
    fn bincode_refuses_trailing_bytes_and_forged_lengths() {
        let mut bytes = Bincode::encode("seat").unwrap().to_vec();
        assert_eq!(Bincode::decode::<String>(&bytes).unwrap(), "seat");
        bytes.push(0);
        assert!(Bincode::decode::<String>(&bytes).is_err());
        assert!(
            Bincode::decode::<Vec<u64>>(&[253, 255, 255, 255, 255, 255, 255, 255, 127]).is_err()
        );
    }

    proptest! {
        #[test]
        fn json_round_trips(value in proptest::collection::vec((any::<u32>(), ".*"), 0..8)) {
            let payload = Payload::json(3, &value).unwrap();
            prop_assert_eq!(payload.decode::<Vec<(u32, String)>>().unwrap(), value);
            prop_assert_eq!(payload.schema, 3);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _decoded = Json::decode::<Vec<(u32, String)>>(&bytes);
            #[cfg(feature = "bincode")]
            let _decoded = Bincode::decode::<Vec<(u32, String)>>(&bytes);
        }
    }
}
