//! The codecs of payloads: each is chosen by its tag, and each is bounded.

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    codec::{Codec, CodecTag, Json, Payload},
};
use serde::{Serialize, de::DeserializeOwned};

/// How deep a value may be nested.
const MAX_DEPTH: usize = 128;

/// `MessagePack` with named fields, so that schemas can grow. Nesting deeper than 128 is refused.
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

impl Codec for MessagePack {
    const TAG: CodecTag = CodecTag::MessagePack;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
        rmp_serde::to_vec_named(value)
            .map(Bytes::from)
            .map_err(|cause| Error::new(ErrorKind::Invalid, "encode MessagePack").because(cause))
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
        let refuse = || Error::new(ErrorKind::Corrupt, "decode MessagePack");
        let mut rest = bytes;
        let mut reader = rmp_serde::Deserializer::new(&mut rest);
        reader.set_max_depth(MAX_DEPTH);
        let value = T::deserialize(&mut reader).map_err(|cause| refuse().because(cause))?;
        match rest.len() {
            0 => Ok(value),
            trailing => Err(refuse().detail(format!("{trailing} trailing bytes"))),
        }
    }
}

/// The codecs that may be written and read, within a size.
///
/// ```
/// use infra_core::codec::{CodecTag, Payload};
/// use infra_messaging::Codecs;
///
/// let codecs = Codecs::new().max_bytes(1_000);
/// let payload = codecs.encode(CodecTag::MessagePack, 1, &("seat", 3))?;
/// assert_eq!(codecs.decode::<(String, u8)>(&payload)?, ("seat".to_owned(), 3));
/// assert!(codecs.decode::<u8>(&Payload::raw("bytes of nobody knows what")).is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codecs {
    max_bytes: usize,
}

impl Codecs {
    /// Creates codecs for bodies of at most 1 MiB.
    pub const fn new() -> Self {
        Self { max_bytes: 1024 * 1024 }
    }

    /// Sets how many bytes a body may have.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if the codec cannot express it or it is too large,
    /// [`Unsupported`](ErrorKind::Unsupported) for a codec other than JSON and `MessagePack`.
    pub fn encode<T: Serialize + ?Sized>(
        &self,
        codec: CodecTag,
        schema: u32,
        value: &T,
    ) -> Result<Payload> {
        let payload = match codec {
            CodecTag::Json => Payload::encode::<Json, T>(schema, value)?,
            CodecTag::MessagePack => Payload::encode::<MessagePack, T>(schema, value)?,
            other @ (CodecTag::Bincode | CodecTag::Raw | _) => {
                return Err(unsupported("encode payload", other));
            }
        };
        self.check(ErrorKind::Invalid, &payload)?;
        Ok(payload)
    }

    /// Decodes a body by the codec that it names, and by no other.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if the body is not a `T`, is too large or too deep,
    /// [`Unsupported`](ErrorKind::Unsupported) for a codec other than JSON and `MessagePack`.
    pub fn decode<T: DeserializeOwned>(&self, payload: &Payload) -> Result<T> {
        self.check(ErrorKind::Corrupt, payload)?;
        match payload.codec {
            CodecTag::Json => Json::decode(&payload.body),
            CodecTag::MessagePack => MessagePack::decode(&payload.body),
            other @ (CodecTag::Bincode | CodecTag::Raw | _) => {
                Err(unsupported("decode payload", other))
            }
        }
    }

    fn check(self, kind: ErrorKind, payload: &Payload) -> Result<()> {
        let (size, most) = (payload.body.len(), self.max_bytes);
        if size <= most {
            return Ok(());
        }
        Err(Error::new(kind, "check payload").detail(format!("{size} bytes, at most {most}")))
    }
}

impl Default for Codecs {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the media type of a codec.
pub const fn content_type(codec: CodecTag) -> &'static str {
    match codec {
        CodecTag::Json => "application/json",
        CodecTag::MessagePack => "application/vnd.msgpack",
        CodecTag::Bincode | CodecTag::Raw | _ => "application/octet-stream",
    }
}

/// Returns the codec of a media type; parameters after a semicolon are not looked at.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) for any type that is not one of the two.
pub fn codec_of(content_type: &str) -> Result<CodecTag> {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    match bare.to_ascii_lowercase().as_str() {
        "application/json" => Ok(CodecTag::Json),
        "application/vnd.msgpack" | "application/msgpack" => Ok(CodecTag::MessagePack),
        other => Err(Error::new(ErrorKind::Unsupported, "choose codec").detail(other.to_owned())),
    }
}

fn unsupported(operation: &'static str, codec: CodecTag) -> Error {
    Error::new(ErrorKind::Unsupported, operation).detail(format!("codec {codec:?}"))
}
