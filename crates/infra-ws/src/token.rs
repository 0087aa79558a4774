//! Resume tokens: signed, bound to a user and a room, expiring, with generations.
//!
//! A token is `base64url(claims).base64url(HMAC-SHA256(claims))` (RFC 2104, RFC 4648 section 5).
//! It proves who its bearer is to whoever has the keys; nothing in it is secret but the signature.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use infra_core::clock::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The longest token in bytes; a longer one is not looked at.
pub const MAX_TOKEN: usize = 512;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who may use it.
    #[serde(rename = "u")]
    pub user: String,
    /// The room it is good for.
    #[serde(rename = "r")]
    pub room: String,
    /// The session of the user that it continues, such as one device; none if users have one.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Which of the tokens of this user and room it is.
    #[serde(rename = "g")]
    pub generation: u32,
    /// When it ends.
    #[serde(rename = "e")]
    pub expires: Timestamp,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenError {
    /// It is no token at all.
    Malformed,
    /// No key of ours signed it.
    Forged,
    /// Its time is over.
    Expired,
    /// A newer one of its user and room was used already.
    Superseded,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "token is malformed",
            Self::Forged => "token was not signed here",
            Self::Expired => "token has expired",
            Self::Superseded => "a newer token was used",
        })
    }
}

impl std::error::Error for TokenError {}

const KEY: usize = 32;

/// The keys that sign and check tokens: the current one, and the previous one after a rotation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    current: [u8; KEY],
    previous: Option<[u8; KEY]>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(hidden)")
    }
}

impl KeyRing {
    /// Creates a ring with a key from the operating system.
    ///
    /// # Errors
    ///
    /// What the operating system fails with.
    pub fn generate() -> io::Result<Self> {
        Ok(Self { current: fresh()?, previous: None })
    }

    /// Creates the ring that all nodes of a cluster share.
    pub const fn from_secret(secret: [u8; KEY]) -> Self {
        Self { current: secret, previous: None }
    }

    /// Reads the ring kept in a file, or makes one and keeps it there, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// What the file system fails with; [`io::ErrorKind::InvalidData`] if the file is no ring.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let what = format!("{} is no key ring", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let ring = Self::generate()?;
                ring.keep(path)?;
                Ok(ring)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a new key the current one; tokens of the one before stay good, older ones do not.
    ///
    /// # Errors
    ///
    /// What the operating system or the file system fails with; the file is as it was then.
    pub fn rotate(&mut self, path: &Path) -> io::Result<()> {
        let rotated = Self { current: fresh()?, previous: Some(self.current) };
        rotated.keep(path)?;
        *self = rotated;
        Ok(())
    }

    /// Signs a token.
    pub fn sign(&self, claims: &Claims) -> String {
        // Claims are text and numbers, which always have a JSON form.
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let signature = mac(&self.current, &claims).finalize().into_bytes();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&claims), URL_SAFE_NO_PAD.encode(signature))
    }

    /// Checks a token's form, signature and time, and returns what it says.
    ///
    /// # Errors
    ///
    /// Why it is refused. The signature is compared in constant time.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if MAX_TOKEN < token.len() {
            return Err(TokenError::Malformed);
        }
        let (claims, signature) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        let keys = std::iter::once(&self.current).chain(&self.previous);
        let is_ours = |key| mac(key, &claims).verify_slice(&signature).is_ok();
        if !keys.into_iter().any(is_ours) {
            return Err(TokenError::Forged);
        }
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)?;
        if claims.expires <= now { Err(TokenError::Expired) } else { Ok(claims) }
    }

    /// Replaces the file as a whole, so that a crash leaves the old ring or the new one.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

fn fresh() -> io::Result<[u8; KEY]> {
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    Ok(key)
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 section 3)")]
fn mac(key: &[u8; KEY], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac
}

/// Which tokens of one user and room are good. It is to be stored before a token is sent.
///
/// An older token stays good until a newer one was used, so that a lost answer locks nobody out.
///
/// ```
/// use infra_ws::token::{Generations, TokenError};
///
/// let mut generations = Generations::default();
/// let first = generations.issue();
/// let second = generations.issue();
/// assert_eq!(generations.take(first), Ok(()), "the second may have been lost");
/// assert_eq!(generations.take(second), Ok(()));
/// assert_eq!(generations.take(first), Err(TokenError::Superseded));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Generations {
    issued: u32,
    used: u32,
}

impl Generations {
    /// Returns the generation of a new token.
    pub const fn issue(&mut self) -> u32 {
        self.issued = self.issued.saturating_add(1);
        self.issued
    }

    /// Takes a token that is being used.
    ///
    /// # Errors
    ///
    /// [`TokenError::Superseded`] if a newer one was used, [`TokenError::Forged`] if this one was
    /// never issued, as far as this record goes.
    pub const fn take(&mut self, generation: u32) -> Result<(), TokenError> {
        if generation < self.used {
            return Err(TokenError::Superseded);
        }
        if self.issued < generation {
            return Err(TokenError::Forged);
        }
        self.used = generation;
        Ok(())
    }

    /// Takes a token that is newer than this record knows of, and goes on from it.
    ///
    /// For records that can be lost or restored from an older copy, where the signature alone has
    /// to do: a token that had been replaced is good again until its replacement comes.
    pub const fn take_up(&mut self, generation: u32) {
        if self.issued < generation {
            self.issued = generation;
            self.used = generation;
        }
    }
}

/// Returns the time at which a token that is issued now ends.
pub fn expiry(now: Timestamp, lifetime: Duration) -> Timestamp {
    now.plus(lifetime)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn claims() -> Claims {
        Claims {
            user: "ann".to_owned(),
            room: "ROOM".to_owned(),
            session: None,
            generation: 3,
            expires: expiry(NOW, Duration::from_mins(1)),
        }
    }

    #[test]
    fn a_token_is_good_for_its_user_room_and_time_and_no_other() {
        let ring = KeyRing::from_secret([7; 32]);
        let token = ring.sign(&claims());
        assert_eq!(ring.verify(&token, NOW), Ok(claims()));
        let late = NOW.plus(Duration::from_mins(1));
        assert_eq!(ring.verify(&token, late), Err(TokenError::Expired));
        let stranger = KeyRing::from_secret([8; 32]);
        assert_eq!(stranger.verify(&token, NOW), Err(TokenError::Forged));
        for malformed in ["", ".", "a.b.c", "!.!", &"a".repeat(MAX_TOKEN + 1)] {
            assert!(ring.verify(malformed, NOW).is_err(), "{malformed}");
        }
        assert_eq!(format!("{ring:?}"), "KeyRing(hidden)");
        assert_eq!(TokenError::Superseded.to_string(), "a newer token was used");
    }

    #[test]
    fn other_claims_under_an_old_signature_are_forged() {
        let ring = KeyRing::from_secret([7; 32]);
        let token = ring.sign(&claims());
        let other = ring.sign(&Claims { user: "bob".to_owned(), ..claims() });
        let mixed =
            format!("{}.{}", other.split_once('.').unwrap().0, token.split_once('.').unwrap().1);
        assert_eq!(ring.verify(&mixed, NOW), Err(TokenError::Forged));
    }

    #[test]
    fn a_ring_is_kept_for_its_owner_alone_and_rotates_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut ring = KeyRing::open(&path).unwrap();
        let first = ring.sign(&claims());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyRing::open(&path).unwrap(), ring);
        ring.rotate(&path).unwrap();
        assert_eq!(KeyRing::open(&path).unwrap().verify(&first, NOW), Ok(claims()));
        ring.rotate(&path).unwrap();
        assert_eq!(KeyRing::open(&path).unwrap().verify(&first, NOW), Err(TokenError::Forged));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(KeyRing::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,100}") {
            prop_assert!(KeyRing::from_secret([7; 32]).verify(&text, NOW).is_err());
        }

        #[test]
        fn a_changed_letter_is_noticed(at: prop::sample::Index, letter in "[A-Za-z0-9_.-]") {
            let ring = KeyRing::from_secret([7; 32]);
            let token = ring.sign(&claims());
            let at = at.index(token.len());
            let changed = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(ring.verify(&changed, NOW).is_err());
        }

        #[test]
        fn a_client_that_loses_answers_is_never_locked_out(losses in proptest::collection::vec(any::<bool>(), 1..30)) {
            let mut generations = Generations::default();
            let mut held = generations.issue();
            let mut old = None;
            for is_lost in losses {
                prop_assert_eq!(generations.take(held), Ok(()));
                let next = generations.issue();
                if let Some(old) = old {
                    prop_assert_eq!(generations.clone().take(old), Err(TokenError::Superseded));
                }
                if !is_lost {
                    old = Some(held);
                    held = next;
                    prop_assert_eq!(generations.take(held), Ok(()));
                }
            }
            prop_assert_eq!(generations.take(1_000), Err(TokenError::Forged));
            let mut restored = Generations::default();
            prop_assert_eq!(restored.take(held), Err(TokenError::Forged));
            restored.take_up(held);
            prop_assert_eq!(restored.take(held), Ok(()));
            prop_assert!(held < restored.issue());
            prop_assert_eq!(restored.take(held - 1), Err(TokenError::Superseded));
        }
    }
}
