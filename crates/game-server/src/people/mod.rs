//! What people say of themselves, their names and words, so kept that they can be forgotten.
//!
//! Events and archived games are written once and for ever. So no name and no word of a person stands in
//! them: each is sealed under a key of its player in its room, and the keys are kept apart, one by one, in
//! a vault. Who destroys a key has destroyed all that was sealed under it, wherever it lies, copies
//! included. A snapshot of a room, which holds the names of several, is sealed as a whole under a key of
//! the room; without it the room is read from its events.
//!
//! ```text
//! forgotten.PLAYER     the player is forgotten: nothing more is kept or shown of it
//! person.PLAYER.ROOM   the key of a player in a room, there before the event that needs it
//! room.ROOM            the key of a room's snapshots
//! ```

mod document_vault;
mod events;
mod folder_vault;
mod key;
mod snapshots;
mod stored;
mod vault;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use infra_cache::LocalCache;
use infra_core::{Clock, Error, ErrorKind, Result, id::EventId};
use parking_lot::RwLock;
use uuid::Uuid;

pub(crate) use document_vault::DocumentVault;
pub(crate) use events::SealedEvents;
pub(crate) use folder_vault::FolderVault;
pub(crate) use snapshots::SealedSnapshots;
pub(crate) use vault::Vault;

use self::key::{Key, new_key, once, once_of};
use crate::{domain::PlayerId, protocol::RoomCode};

/// How many keys are kept in memory.
const IN_MEMORY: u64 = 40_000;

const FORGOTTEN: &str = "forgotten.";

const PERSON: &str = "person.";

/// The keys of people, and who is forgotten. Cheap to clone.
#[derive(Clone)]
pub(crate) struct People(Arc<Inner>);

struct Inner {
    vault: Arc<dyn Vault>,
    keys: LocalCache<String, Arc<Key>>,
    forgotten: RwLock<HashSet<PlayerId>>,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").field("vault", &self.0.vault).finish_non_exhaustive()
    }
}

fn person(player: PlayerId, room: RoomCode) -> String {
    format!("{PERSON}{player}.{room}")
}

fn snapshots_of(room: RoomCode) -> String {
    format!("room.{room}")
}

impl People {
    /// Opens the keys in a vault.
    pub(crate) async fn open(vault: Arc<dyn Vault>, clock: Arc<dyn Clock>) -> Result<Self> {
        let names = vault.names(FORGOTTEN).await?;
        let ids = names.iter().filter_map(|name| name.strip_prefix(FORGOTTEN)?.parse().ok());
        let forgotten = ids.map(|id: Uuid| PlayerId::from_uuid(id)).collect();
        let keys = LocalCache::new(infra_cache::Options::new(IN_MEMORY), clock);
        Ok(Self(Arc::new(Inner { vault, keys, forgotten: RwLock::new(forgotten) })))
    }

    /// Returns whether a player is forgotten.
    pub(crate) fn is_forgotten(&self, player: PlayerId) -> bool {
        self.0.forgotten.read().contains(&player)
    }

    /// Returns whether anybody is forgotten.
    fn is_anybody_forgotten(&self) -> bool {
        !self.0.forgotten.read().is_empty()
    }

    /// Keeps durably that a player is forgotten, before anything is removed: from now on nothing is
    /// sealed or opened for it. Returns whether that is new.
    pub(crate) async fn forget(&self, player: PlayerId) -> Result<bool> {
        self.0.vault.keep(&format!("{FORGOTTEN}{player}"), Bytes::from_static(b"-")).await?;
        Ok(self.0.forgotten.write().insert(player))
    }

    /// Returns the players that are forgotten and have keys all the same: forgetting them was interrupted.
    pub(crate) async fn unfinished(&self) -> Result<BTreeSet<PlayerId>> {
        if !self.is_anybody_forgotten() {
            return Ok(BTreeSet::new());
        }
        let names = self.0.vault.names(PERSON).await?;
        let id = |name: &String| name.strip_prefix(PERSON)?.split('.').next()?.parse().ok();
        let players = names.iter().filter_map(id).map(|id: Uuid| PlayerId::from_uuid(id));
        Ok(players.filter(|player| self.is_forgotten(*player)).collect())
    }

    /// Returns the rooms in which a player has a key.
    pub(crate) async fn rooms_of(&self, player: PlayerId) -> Result<Vec<RoomCode>> {
        let prefix = format!("{PERSON}{player}.");
        let names = self.0.vault.names(&prefix).await?;
        Ok(names.iter().filter_map(|name| RoomCode::new(name.strip_prefix(&prefix)?)).collect())
    }

    /// Destroys the key of a player in a room; returns whether there was one.
    pub(crate) async fn destroy(&self, player: PlayerId, room: RoomCode) -> Result<bool> {
        self.destroy_key(person(player, room)).await
    }

    /// Destroys the key of a room's snapshots, with all of them.
    async fn destroy_snapshots(&self, room: RoomCode) -> Result<bool> {
        self.destroy_key(snapshots_of(room)).await
    }

    async fn destroy_key(&self, name: String) -> Result<bool> {
        let was_there = self.0.vault.destroy(&name).await?;
        self.0.keys.invalidate(&name);
        Ok(was_there)
    }

    /// Seals a text of a player; `None` if the player is forgotten. The event makes it the same each
    /// time: of each player one text of an event is sealed.
    pub(crate) async fn seal(
        &self,
        (player, room): (PlayerId, RoomCode),
        event: EventId,
        text: &str,
    ) -> Result<Option<String>> {
        if self.is_forgotten(player) {
            return Ok(None);
        }
        let name = person(player, room);
        let sealed = self.key_or_new(&name).await?.seal(once_of(event), &name, text.as_bytes())?;
        Ok(Some(URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens a text of a player; `None` if the player is forgotten or its key is lost.
    pub(crate) async fn open_text(
        &self,
        (player, room): (PlayerId, RoomCode),
        sealed: &str,
    ) -> Result<Option<String>> {
        if self.is_forgotten(player) {
            return Ok(None);
        }
        let name = person(player, room);
        let Some(key) = self.key(&name).await? else {
            tracing::error!(%room, "the key of a player is lost: its name and words are not shown");
            return Ok(None);
        };
        let broken = || Error::new(ErrorKind::Corrupt, "open text").detail(name.clone());
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| broken())?;
        let plain = key.open(&name, &sealed).ok_or_else(broken)?;
        String::from_utf8(plain).map(Some).map_err(|_| broken())
    }

    /// Seals a snapshot of a room.
    async fn seal_snapshot(&self, room: RoomCode, plain: &[u8]) -> Result<Bytes> {
        let name = snapshots_of(room);
        self.key_or_new(&name).await?.seal(once()?, &name, plain).map(Bytes::from)
    }

    /// Opens a snapshot of a room; `None` if its key was destroyed.
    async fn open_snapshot(&self, room: RoomCode, sealed: &[u8]) -> Result<Option<Bytes>> {
        let name = snapshots_of(room);
        let key = self.key(&name).await?;
        Ok(key.and_then(|key| key.open(&name, sealed)).map(Bytes::from))
    }

    async fn key(&self, name: &String) -> Result<Option<Arc<Key>>> {
        if let Some(key) = self.0.keys.get(name) {
            return Ok(Some(key));
        }
        match self.0.vault.get(name).await? {
            Some(body) => self.remember(name, &body).map(Some),
            None => Ok(None),
        }
    }

    /// Returns a key; a new one is durable first.
    async fn key_or_new(&self, name: &String) -> Result<Arc<Key>> {
        if let Some(key) = self.0.keys.get(name) {
            return Ok(key);
        }
        let fresh = Bytes::copy_from_slice(&new_key()?);
        let kept = self.0.vault.keep(name, fresh).await?;
        self.remember(name, &kept)
    }

    fn remember(&self, name: &str, body: &[u8]) -> Result<Arc<Key>> {
        let key = Arc::new(Key::of(body)?);
        self.0.keys.put(name.to_owned(), Arc::clone(&key));
        Ok(key)
    }
}
