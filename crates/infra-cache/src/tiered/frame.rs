//! How a value stands in the second tier: with its codec and the version of its schema.

use bytes::{BufMut as _, Bytes, BytesMut};
use infra_core::{
    Error, ErrorKind, Result,
    codec::{Codec, CodecTag},
};
use serde::{Serialize, de::DeserializeOwned};

/// The first byte: the version of the frame.
const FRAME: u8 = 1;

/// Frame, codec, schema in big endian.
const HEAD: usize = 6;

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body<V> {
    Value(V),
    /// The knowledge that there is none.
    Absent,
}

/// Encodes a value, or the knowledge that there is none as an empty body of the raw codec.
pub(super) fn encode<C: Codec, V: Serialize>(schema: u32, value: Option<&V>) -> Result<Bytes> {
    let (codec, body) = match value {
        Some(value) => (C::TAG, C::encode(value)?),
        None => (CodecTag::Raw, Bytes::new()),
    };
    let mut frame = BytesMut::with_capacity(HEAD + body.len());
    frame.put_u8(FRAME);
    frame.put_u8(codec.as_byte());
    frame.put_u32(schema);
    frame.put_slice(&body);
    Ok(frame.freeze())
}

/// Decodes a value; `None` if another codec or version of the schema wrote it.
pub(super) fn decode<C: Codec, V: DeserializeOwned>(
    schema: u32,
    frame: &[u8],
) -> Result<Option<Body<V>>> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read cached value");
    let Some((head, body)) = frame.split_first_chunk::<HEAD>() else {
        return Err(corrupt().detail(format!("{} bytes", frame.len())));
    };
    let [version, codec, schema_bytes @ ..] = head;
    let codec = CodecTag::from_byte(*codec)?;
    if *version != FRAME || u32::from_be_bytes(*schema_bytes) != schema {
        return Ok(None);
    }
    if codec == CodecTag::Raw && body.is_empty() {
        return Ok(Some(Body::Absent));
    }
    let is_ours = codec == C::TAG;
    is_ours.then(|| C::decode(body).map(Body::Value)).transpose()
}

#[cfg(test)]
mod tests {
    use infra_core::codec::Json;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_another_schema_or_codec_wrote_is_not_read() {
        let frame = encode::<Json, u32>(2, Some(&7)).unwrap();
        assert_eq!(decode::<Json, u32>(2, &frame).unwrap(), Some(Body::Value(7)));
        assert_eq!(decode::<Json, u32>(3, &frame).unwrap(), None);
        let mut other = frame.to_vec();
        other[1] = CodecTag::Bincode.as_byte();
        assert_eq!(decode::<Json, u32>(2, &other).unwrap(), None);
        other[0] = 9;
        assert_eq!(decode::<Json, u32>(2, &other).unwrap(), None);
        let absent = encode::<Json, u32>(2, None).unwrap();
        assert_eq!(decode::<Json, u32>(2, &absent).unwrap(), Some(Body::Absent));
        assert!(decode::<Json, u32>(2, &frame[..3]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let _said = decode::<Json, Vec<u32>>(1, &bytes).is_ok();
        }

        #[test]
        fn what_was_encoded_decodes_to_an_equal_value(value: Vec<u32>, schema: u32) {
            let frame = encode::<Json, _>(schema, Some(&value)).unwrap();
            prop_assert_eq!(decode::<Json, Vec<u32>>(schema, &frame).unwrap(), Some(Body::Value(value)));
        }
    }
}
