//! The vault: entities as objects of an archive, and the stubs that stand for them.
//!
//! An archived entity's document is replaced by a stub under the same key: it names the object and
//! its digest. So the index is exact, and one read of one document tells where an entity is.

use std::{
    collections::HashMap,
    fmt::{self, Debug, Formatter},
    sync::Arc,
};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    archive::ArchiveStore,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    id::Collection,
    store::Document,
    version::Version,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::object::{self, Dictionary, Header, corrupt, hex};
use crate::telemetry::ARCHIVED_BYTES;

/// The schema by which stubs are known; no entity's is that high.
const STUB: u32 = u32::MAX;

/// The most dictionaries that are kept in memory.
const DICTIONARIES: usize = 64;

/// What is known of an archived entity without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The object's name.
    pub object: String,
    /// The version that was archived.
    pub version: Version,
    /// When that version was saved.
    pub saved: Timestamp,
    /// When it was archived.
    pub archived: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
    /// The length of its body in bytes.
    pub length: u64,
    /// The length of the object in bytes.
    pub stored: u64,
    /// The level at which it was compressed.
    pub level: i32,
    /// The object's digest, in hexadecimal.
    pub digest: String,
}

/// Keeps archived entities in an archive, compressed, each under a name of its own.
pub struct Vault {
    objects: Arc<dyn ArchiveStore>,
    level: i32,
    dictionary: Option<Arc<Dictionary>>,
    known: Mutex<HashMap<String, Arc<Dictionary>>>,
}

impl Debug for Vault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// Writes bytes as a segment of a name: letters, digits, `-` and `_` as they are, others as `~hh`.
fn segment(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "~".to_owned();
    }
    bytes.iter().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
            text + &char::from(*byte).to_string()
        }
        other => text + "~" + &hex(&[*other]),
    })
}

fn dictionary_name(name: &str) -> String {
    format!("dictionaries/{name}")
}

impl Vault {
    /// Creates a vault over an archive that compresses at zstd's level 3.
    pub fn new(objects: Arc<dyn ArchiveStore>) -> Self {
        Self { objects, level: 3, dictionary: None, known: Mutex::default() }
    }

    /// Sets the level of compression, 1 to 22; 3 by default. Higher ones are slower and smaller.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = level.clamp(1, 22);
        self
    }

    /// Trains a dictionary of at most `length` bytes on samples of bodies, stores it in the archive,
    /// and compresses with it from now on. What was compressed with another one stays readable.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if the samples are too few, and what the archive fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the dictionary in the archive, unused.
    pub async fn train(mut self, samples: &[Bytes], length: usize) -> Result<Self> {
        const TRAIN: &str = "train dictionary";
        let bytes = zstd::dict::from_samples(samples, length)
            .map_err(|cause| Error::invalid(TRAIN, "the samples are too few").because(cause))?;
        let name = format!("{:08x}{:08x}", crc32c::crc32c(&bytes), bytes.len());
        let bytes = Bytes::from(bytes);
        match self.objects.create(&dictionary_name(&name), bytes.clone()).await {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
            said => said?,
        }
        self.dictionary = Some(Arc::new(Dictionary { name, bytes }));
        Ok(self)
    }

    /// Returns whether a document's body is a stub.
    pub(crate) fn is_stub(payload: &Payload) -> bool {
        payload.schema == STUB && payload.codec == CodecTag::Json
    }

    /// Makes the stub of an archived entity.
    pub(crate) fn stub(archived: &Archived) -> Result<Payload> {
        Payload::json(STUB, archived)
    }

    /// Reads a stub.
    pub(crate) fn read_stub(payload: &Payload) -> Result<Archived> {
        payload.decode()
    }

    /// Returns the prefix of the objects of a collection.
    pub(crate) fn prefix(kind: &Collection) -> String {
        segment(kind.as_str().as_bytes())
    }

    /// Returns the key of the entity that an object's name is made for.
    pub(crate) fn key_of(object: &str) -> Option<Bytes> {
        let text = object.split('/').nth(1)?;
        let mut key = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            if *first != b'~' {
                key.push(*first);
                rest = after;
                continue;
            }
            let Some((code, after)) = after.split_first_chunk::<2>() else { break };
            key.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = after;
        }
        Some(key.into())
    }

    /// Archives a document at the vault's level.
    pub(crate) async fn archive(
        &self,
        kind: &Collection,
        document: &Document,
        tags: Vec<String>,
        now: Timestamp,
    ) -> Result<Archived> {
        self.archive_at(self.level, kind, document, (tags, now)).await
    }

    /// Archives a document; an object of the same version that is there already is taken if it holds
    /// the same, else replaced.
    pub(crate) async fn archive_at(
        &self,
        level: i32,
        kind: &Collection,
        document: &Document,
        (tags, now): (Vec<String>, Timestamp),
    ) -> Result<Archived> {
        let header = Header {
            kind: kind.as_str().to_owned(),
            key: hex(&document.key),
            version: document.version.get(),
            codec: document.payload.codec.as_byte(),
            schema: document.payload.schema,
            saved: document.written,
            archived: now,
            tags: tags.clone(),
            length: document.payload.body.len() as u64,
            dictionary: self.dictionary.as_ref().map(|own| own.name.clone()),
        };
        let dictionary = self.dictionary.clone();
        let body = document.payload.body.clone();
        let encoding = move || object::encode(&header, &body, level, dictionary.as_deref());
        let encoded = tokio::task::spawn_blocking(encoding).await;
        let died = |cause| Error::new(ErrorKind::Internal, "compress entity").because(cause);
        let (bytes, digest) = encoded.map_err(died)??;
        let name = format!(
            "{}/{}/{:020}.z{level}",
            Self::prefix(kind),
            segment(&document.key),
            document.version.get()
        );
        let archived = Archived {
            object: name,
            version: document.version,
            saved: document.written,
            archived: now,
            tags,
            length: document.payload.body.len() as u64,
            stored: bytes.len() as u64,
            level,
            digest,
        };
        ARCHIVED_BYTES.add(archived.stored);
        match self.objects.create(&archived.object, bytes.clone()).await {
            Ok(()) => Ok(archived),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                self.adopt(archived, bytes, &document.payload).await
            }
            Err(error) => Err(error),
        }
    }

    /// Takes an object that an attempt before left, if it is the same entity, else replaces it.
    async fn adopt(&self, new: Archived, bytes: Bytes, payload: &Payload) -> Result<Archived> {
        if let Some(old) = self.objects.get(&new.object).await?
            && let Ok(sound) = object::open(&old)
            && self.payload(&sound).await.is_ok_and(|old| old == *payload)
        {
            let (archived, tags) = (sound.header.archived, sound.header.tags.clone());
            let (stored, digest) = (old.len() as u64, sound.digest);
            return Ok(Archived { archived, tags, stored, digest, ..new });
        }
        self.objects.replace(&new.object, bytes).await?;
        Ok(new)
    }

    /// Reads the entity that a stub stands for, byte for byte as it was.
    pub(crate) async fn fetch(&self, stub: &Payload) -> Result<Payload> {
        let stub = Self::read_stub(stub)?;
        let missing = || corrupt("its object is missing").detail(stub.object.clone());
        let object = self.objects.get(&stub.object).await?.ok_or_else(missing)?;
        let sound = object::open(&object)?;
        if sound.digest != stub.digest {
            return Err(corrupt("its object is another one").detail(stub.object));
        }
        self.payload(&sound).await
    }

    async fn payload(&self, sound: &object::Sound<'_>) -> Result<Payload> {
        let Some(name) = &sound.header.dictionary else { return sound.payload(None) };
        let own = self.dictionary.clone().filter(|own| own.name == *name);
        let known = own.or_else(|| self.known.lock().get(name).cloned());
        if let Some(dictionary) = known {
            return sound.payload(Some(&dictionary));
        }
        let bytes = self.objects.get(&dictionary_name(name)).await?;
        let bytes = bytes.ok_or_else(|| corrupt("its dictionary is missing"))?;
        let dictionary = Arc::new(Dictionary { name: name.clone(), bytes });
        {
            let mut known = self.known.lock();
            if DICTIONARIES <= known.len() {
                known.clear();
            }
            known.insert(name.clone(), Arc::clone(&dictionary));
        }
        sound.payload(Some(&dictionary))
    }

    pub(crate) async fn delete(&self, object: &str) -> Result<()> {
        self.objects.delete(object).await
    }

    pub(crate) fn objects(&self) -> &dyn ArchiveStore {
        self.objects.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_names_that_never_meet() {
        assert_eq!(segment(b"game-1"), "game-1");
        assert_eq!(segment(b"a/b~"), "a~2fb~7e");
        assert_eq!(segment(b""), "~");
        assert_ne!(segment(b"game-1"), segment(b"game-10"));
        for key in [&b"game-1"[..], b"a/b~", b"", &[0, 255]] {
            let name = format!("games/{}/1.z3", segment(key));
            assert_eq!(Vault::key_of(&name).unwrap(), key);
        }
    }
}
