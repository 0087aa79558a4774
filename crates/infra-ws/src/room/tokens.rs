//! Issues resume tokens and takes them back, each generation as it must be.

use std::{collections::HashMap, sync::Arc, time::Duration};

use infra_core::{
    Clock, ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::{Expected, Version},
};
use parking_lot::Mutex;

use crate::token::{Claims, Generations, KeyRing, TokenError, expiry};

/// How often a step is tried again when another node changed the same record.
const ATTEMPTS: u32 = 8;

/// The most records in memory; beyond it the one that ends first is forgotten.
const MAX_RECORDS: usize = 100_000;

/// The generations of all tokens, in memory or in a document store.
///
/// A token of which there is no record is refused: after a restart without a store, clients
/// authenticate anew.
#[derive(Debug)]
pub struct TokenBook {
    ring: KeyRing,
    clock: Arc<dyn Clock>,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Memory(Mutex<HashMap<String, (Generations, Timestamp)>>),
    Store(Arc<dyn DocumentStore>, Collection),
}

impl TokenBook {
    /// Keeps generations in memory.
    pub fn in_memory(ring: KeyRing, clock: Arc<dyn Clock>) -> Self {
        Self { ring, clock, kept: Kept::Memory(Mutex::default()) }
    }

    /// Keeps generations in a collection of a document store, for all nodes and across restarts.
    pub fn in_store(
        ring: KeyRing,
        clock: Arc<dyn Clock>,
        store: Arc<dyn DocumentStore>,
        collection: Collection,
    ) -> Self {
        Self { ring, clock, kept: Kept::Store(store, collection) }
    }

    /// Issues a token; older ones of the same user, room and session stay good until it is used.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a generation that nobody has.
    pub async fn issue(
        &self,
        user: &str,
        room: &str,
        session: Option<&str>,
        lifetime: Duration,
    ) -> Result<String> {
        let expires = expiry(self.clock.wall(), lifetime);
        let mut claims = Claims {
            user: user.to_owned(),
            room: room.to_owned(),
            session: session.map(ToOwned::to_owned),
            generation: 0,
            expires,
        };
        let issue = |generations: &mut Generations| Ok(generations.issue());
        match self.change(&key(&claims), expires, &issue).await? {
            Ok(generation) => claims.generation = generation,
            Err(_) => return Err(infra_core::Error::new(ErrorKind::Internal, "issue token")),
        }
        Ok(self.ring.sign(&claims))
    }

    /// Takes a token that is being used, and returns what it says.
    ///
    /// # Errors
    ///
    /// What the store fails with; inside, why the token is refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the token used or not; it can be used again either way.
    pub async fn take(&self, token: &str) -> Result<Result<Claims, TokenError>> {
        let claims = match self.ring.verify(token, self.clock.wall()) {
            Ok(claims) => claims,
            Err(refused) => return Ok(Err(refused)),
        };
        let generation = claims.generation;
        let take = |generations: &mut Generations| {
            generations.take(generation)?;
            Ok(generation)
        };
        let changed = self.change(&key(&claims), claims.expires, &take).await?;
        Ok(changed.map(|_| claims))
    }

    async fn change(
        &self,
        key: &str,
        expires: Timestamp,
        change: &(dyn Fn(&mut Generations) -> Result<u32, TokenError> + Sync),
    ) -> Result<Result<u32, TokenError>> {
        match &self.kept {
            Kept::Memory(records) => {
                Ok(change_in_memory(&mut records.lock(), key, (expires, self.clock.wall()), change))
            }
            Kept::Store(store, collection) => {
                change_in_store(store.as_ref(), collection, key, change).await
            }
        }
    }
}

fn key(claims: &Claims) -> String {
    let session = claims.session.as_deref().unwrap_or_default();
    format!("{}/{}/{session}", claims.room, claims.user)
}

fn change_in_memory(
    records: &mut HashMap<String, (Generations, Timestamp)>,
    key: &str,
    (expires, now): (Timestamp, Timestamp),
    change: impl Fn(&mut Generations) -> Result<u32, TokenError>,
) -> Result<u32, TokenError> {
    if MAX_RECORDS <= records.len() && !records.contains_key(key) {
        records.retain(|_, (_, end)| now < *end);
        if MAX_RECORDS <= records.len() {
            let first = records.iter().min_by_key(|(_, (_, end))| *end);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                records.remove(&first);
            }
        }
    }
    let (mut generations, end) = records.get(key).copied().unwrap_or_default();
    let changed = change(&mut generations)?;
    records.insert(key.to_owned(), (generations, end.max(expires)));
    Ok(changed)
}

async fn change_in_store(
    store: &dyn DocumentStore,
    collection: &Collection,
    key: &str,
    change: &(dyn Fn(&mut Generations) -> Result<u32, TokenError> + Sync),
) -> Result<Result<u32, TokenError>> {
    let mut attempt = 1;
    loop {
        let found = store.get(collection, key.as_bytes()).await?;
        let expected = match &found {
            Some(document) if document.version != Version::ZERO => {
                Expected::Exactly(document.version)
            }
            Some(_) | None => Expected::Absent,
        };
        let mut generations: Generations = match found {
            Some(document) => document.decode()?,
            None => Generations::default(),
        };
        let changed = match change(&mut generations) {
            Ok(changed) => changed,
            Err(refused) => return Ok(Err(refused)),
        };
        let payload = Payload::json(1, &generations)?;
        let batch = Batch::new().put(collection.clone(), key.to_owned(), expected, payload);
        match store.commit(batch).await {
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

#[cfg(test)]
mod tests {
    use infra_testkit::{clock::ManualClock, model::ModelDocuments};

    use super::*;

    const LIFETIME: Duration = Duration::from_mins(5);

    fn books() -> (ManualClock, Vec<TokenBook>) {
        let clock = ManualClock::new();
        let ring = KeyRing::from_secret([7; 32]);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(Arc::clone(&shared)));
        let collection = Collection::new("tokens").unwrap();
        let stored = TokenBook::in_store(ring.clone(), Arc::clone(&shared), store, collection);
        (clock, vec![TokenBook::in_memory(ring, shared), stored])
    }

    #[tokio::test]
    async fn a_token_is_good_until_a_newer_one_of_its_session_was_used() {
        let (clock, books) = books();
        for book in books {
            let issue = async |session| book.issue("ann", "a", session, LIFETIME).await.unwrap();
            let (first, other) = (issue(None).await, issue(Some("phone")).await);
            let second = issue(None).await;
            assert_eq!(book.take(&first).await.unwrap().unwrap().user, "ann");
            assert!(book.take(&first).await.unwrap().is_ok(), "the answer may have been lost");
            assert!(book.take(&second).await.unwrap().is_ok());
            assert_eq!(book.take(&first).await.unwrap(), Err(TokenError::Superseded));
            let taken = book.take(&other).await.unwrap().unwrap();
            assert_eq!(taken.session.as_deref(), Some("phone"), "devices do not collide");
            clock.advance(LIFETIME);
            assert_eq!(book.take(&second).await.unwrap(), Err(TokenError::Expired));
        }
    }

    #[tokio::test]
    async fn a_token_without_a_record_is_refused() {
        let (_clock, books) = books();
        let [memory, stored] = &books[..] else { panic!("two books") };
        let token = memory.issue("ann", "a", None, LIFETIME).await.unwrap();
        assert_eq!(stored.take(&token).await.unwrap(), Err(TokenError::Forged));
        let at_once: Vec<_> = (0..6).map(|_| stored.issue("bob", "a", None, LIFETIME)).collect();
        let tokens = futures_util::future::join_all(at_once).await;
        let last = tokens.into_iter().map(Result::unwrap).next_back().unwrap();
        assert!(stored.take(&last).await.unwrap().is_ok());
    }
}
