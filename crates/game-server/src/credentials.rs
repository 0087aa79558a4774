//! Who may come back: tokens for players, with their generations kept in the document store.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, ErrorKind, Result,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore, Scan},
    version::{Expected, Version},
};
use infra_ws::token::{Claims, Generations, KeyRing, TokenError, expiry};

use crate::{
    domain::PlayerId,
    protocol::{RoomCode, Token, TokenText},
};

/// How long a token is good by default.
pub(crate) const LIFETIME: Duration = Duration::from_hours(24);

/// How often a write is tried again that met another one of the same token.
const ATTEMPTS: usize = 4;

/// How many generations are forgotten in one go.
const PAGE: usize = 256;

fn collection() -> Result<Collection> {
    Collection::new("tokens")
}

/// Forgets the generations of a room's tokens, and returns how many tokens that were. Those that are
/// still good stay so, by their signature alone.
pub(crate) async fn forget(documents: &dyn DocumentStore, room: RoomCode) -> Result<usize> {
    let collection = collection()?;
    let mut count = 0;
    loop {
        let scan = Scan::prefix(format!("{room}/"), PAGE);
        let page = documents.scan(&collection, scan).await?;
        if page.is_empty() {
            return Ok(count);
        }
        count += page.len();
        let forget = page.into_iter().fold(Batch::new(), |batch, document| {
            batch.delete(collection.clone(), document.key, Expected::Any)
        });
        documents.commit(forget).await?;
    }
}

/// Returns the rooms of which a player's tokens are known.
pub(crate) async fn rooms_of(
    documents: &dyn DocumentStore,
    player: PlayerId,
) -> Result<Vec<RoomCode>> {
    let (collection, of_player) = (collection()?, format!("/{player}"));
    let (mut rooms, mut scan) = (Vec::new(), Scan::prefix("", PAGE));
    loop {
        let page = documents.scan(&collection, scan.clone()).await?;
        let Some(last) = page.last() else { return Ok(rooms) };
        scan.after = Some(last.key.clone());
        let keys = page.iter().filter_map(|found| std::str::from_utf8(&found.key).ok());
        rooms.extend(keys.filter_map(|key| RoomCode::new(key.strip_suffix(&of_player)?)));
    }
}

/// Forgets the generations of a player's tokens of some rooms. Those that are still good stay so, by
/// their signature alone.
pub(crate) async fn forget_player(
    documents: &dyn DocumentStore,
    player: PlayerId,
    rooms: &[RoomCode],
) -> Result<()> {
    let collection = collection()?;
    for room in rooms {
        let key = format!("{room}/{player}");
        documents.commit(Batch::new().delete(collection.clone(), key, Expected::Any)).await?;
    }
    Ok(())
}

/// Issues and checks the tokens of players.
#[derive(Debug)]
pub struct Credentials {
    ring: KeyRing,
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
    clock: Arc<dyn Clock>,
    lifetime: Duration,
}

/// Who a genuine token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// The player.
    pub player: PlayerId,
    /// The room.
    pub room: RoomCode,
    generation: u32,
}

impl Credentials {
    /// Creates the credentials that `ring` signs.
    ///
    /// # Errors
    ///
    /// Never: the collection's name is a good one.
    pub fn new(
        ring: KeyRing,
        documents: Arc<dyn DocumentStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let collection = collection()?;
        Ok(Self { ring, documents, collection, clock, lifetime: LIFETIME })
    }

    /// Sets how long a token is good; a day by default.
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Checks a token's signature and time.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn verify(&self, token: &TokenText) -> Result<Bearer, TokenError> {
        let claims = self.ring.verify(token.as_str(), self.clock.wall())?;
        let player = claims.user.parse().map(PlayerId::from_uuid);
        match (player, RoomCode::new(&claims.room)) {
            (Ok(player), Some(room)) => Ok(Bearer { player, room, generation: claims.generation }),
            _ => Err(TokenError::Malformed),
        }
    }

    /// Issues a player's token for a room.
    ///
    /// # Errors
    ///
    /// What the document store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a generation that nobody has; older tokens stay good.
    pub async fn issue(&self, player: PlayerId, room: RoomCode) -> Result<Token> {
        let issue = |generations: &mut Generations| Ok(generations.issue());
        match self.change(player, room, issue).await? {
            Ok(generation) => self.sign(player, room, generation),
            Err(_) => Err(infra_core::Error::new(ErrorKind::Internal, "issue token")),
        }
    }

    /// Takes a token that is being used and issues the next one, in one durable step.
    ///
    /// # Errors
    ///
    /// What the document store fails with; inside, [`TokenError::Superseded`] if a later token was
    /// used already.
    ///
    /// # Cancel safety
    ///
    /// As for [`Credentials::issue`].
    pub async fn rotate(&self, bearer: Bearer) -> Result<Result<Token, TokenError>> {
        let rotate = |generations: &mut Generations| {
            // The signature is genuine: documents that know less are older than the events.
            generations.take_up(bearer.generation);
            generations.take(bearer.generation)?;
            Ok(generations.issue())
        };
        match self.change(bearer.player, bearer.room, rotate).await? {
            Ok(generation) => self.sign(bearer.player, bearer.room, generation).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Returns whether no later token of the bearer was used; nothing is changed.
    ///
    /// # Errors
    ///
    /// What the document store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn is_current(&self, bearer: Bearer) -> Result<bool> {
        let key = format!("{}/{}", bearer.room, bearer.player);
        // Of a room that was cleaned up nothing is known but what is signed.
        let Some(found) = self.documents.get(&self.collection, key.as_bytes()).await? else {
            return Ok(true);
        };
        let mut generations: Generations = found.decode()?;
        generations.take_up(bearer.generation);
        Ok(generations.take(bearer.generation).is_ok())
    }

    async fn change(
        &self,
        player: PlayerId,
        room: RoomCode,
        change: impl Fn(&mut Generations) -> Result<u32, TokenError>,
    ) -> Result<Result<u32, TokenError>> {
        let key = format!("{room}/{player}");
        let mut attempt = 1;
        loop {
            let found = self.documents.get(&self.collection, key.as_bytes()).await?;
            let version = found.as_ref().map_or(Version::ZERO, |document| document.version);
            let mut generations: Generations = match found {
                Some(document) => document.decode()?,
                None => Generations::default(),
            };
            let changed = match change(&mut generations) {
                Ok(changed) => changed,
                Err(refused) => return Ok(Err(refused)),
            };
            let expected = if version == Version::ZERO {
                Expected::Absent
            } else {
                Expected::Exactly(version)
            };
            let payload = Payload::json(1, &generations)?;
            let batch = Batch::new().put(self.collection.clone(), key.clone(), expected, payload);
            match self.documents.commit(batch).await {
                Ok(_) => return Ok(Ok(changed)),
                Err(error)
                    if attempt < ATTEMPTS && matches!(error.kind(), ErrorKind::Conflict { .. }) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn sign(&self, player: PlayerId, room: RoomCode, generation: u32) -> Result<Token> {
        let claims = Claims {
            user: player.to_string(),
            room: room.to_string(),
            session: None,
            generation,
            expires: expiry(self.clock.wall(), self.lifetime),
        };
        let token = TokenText::new(self.ring.sign(&claims))
            .ok_or_else(|| infra_core::Error::new(ErrorKind::Internal, "sign token"))?;
        let expires_in_ms = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        Ok(Token { token, expires_in_ms })
    }
}
