//! A key under which what people say of themselves is sealed: ChaCha20-Poly1305 (RFC 8439).

use std::fmt;

use infra_core::{Error, ErrorKind, Result, id::EventId};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The length of a key in bytes.
const LENGTH: usize = 32;

/// What is used once with a key.
pub(super) type Once = [u8; NONCE_LEN];

/// A key; it is never printed.
pub(super) struct Key(LessSafeKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Returns the bytes of a new key.
pub(super) fn new_key() -> Result<[u8; LENGTH]> {
    random()
}

/// Returns bytes that are used once, by chance.
pub(super) fn once() -> Result<Once> {
    random()
}

/// Returns bytes that belong to an event alone, so that it is sealed alike each time it is written.
pub(super) fn once_of(event: EventId) -> Once {
    let mut once = Once::default();
    // The end of a UUIDv7 holds the low part of its time and all of its chance.
    for (to, from) in once.iter_mut().zip(event.as_uuid().as_bytes().iter().skip(4)) {
        *to = *from;
    }
    once
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, "take entropy").because(cause.to_string())
    })?;
    Ok(bytes)
}

impl Key {
    /// Takes the bytes of a key as they are kept.
    pub(super) fn of(bytes: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes);
        key.map(|key| Self(LessSafeKey::new(key))).map_err(|_| {
            let detail = format!("a key of {} bytes", bytes.len());
            Error::new(ErrorKind::Corrupt, "read key").detail(detail)
        })
    }

    /// Seals bytes; `about` must be the same when they are opened.
    pub(super) fn seal(&self, once: Once, about: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut body = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(once);
        let sealed = self.0.seal_in_place_append_tag(nonce, Aad::from(about), &mut body);
        sealed.map_err(|_| Error::new(ErrorKind::Invalid, "seal").detail("it is too long"))?;
        Ok([once.as_slice(), &body].concat())
    }

    /// Opens what was sealed under this key about the same; `None` if it was not.
    pub(super) fn open(&self, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (once, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*once);
        let plain = self.0.open_in_place(nonce, Aad::from(about), &mut body).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_about_the_same_and_not_otherwise() {
        let [key, other] = [7, 8].map(|byte| Key::of(&[byte; LENGTH]).unwrap());
        let sealed = key.seal([1; NONCE_LEN], "ann", b"hello").unwrap();
        assert_eq!(
            sealed,
            key.seal([1; NONCE_LEN], "ann", b"hello").unwrap(),
            "a retry is the same"
        );
        assert!(!sealed.windows(5).any(|part| part == b"hello"));
        assert_eq!(key.open("ann", &sealed).unwrap(), b"hello");
        assert_eq!(key.open("bob", &sealed), None);
        assert_eq!(other.open("ann", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(key.open("ann", &sealed[..cut]), None);
            let mut changed = sealed.clone();
            changed[cut] ^= 1;
            assert_eq!(key.open("ann", &changed), None, "byte {cut}");
        }
        assert!(Key::of(&[7; 31]).is_err());
    }
}
