//! How one entity is handed over to the archive.
//!
//! First the object is durable in the archive; then one commit puts its name in the entity's place,
//! if the entity is still in that version, and takes the row out of the outbox. A crash between the
//! two leaves an object that nobody names; the next attempt takes it.

use bytes::Bytes;
use infra_core::{
    Clock as _, Error, ErrorKind, Result,
    codec::Payload,
    store::{Batch, Document, Term, Write},
    version::Expected,
};

use super::{
    schedule::Ticket,
    store::{DeadLetter, Inner, by_time, told},
};
use crate::{
    archive::{Archived, Vault},
    repository::{Entity, Standing},
    telemetry::{HAND_OVERS, HandOver},
};

/// What became of an attempt.
#[derive(Debug)]
enum Attempt {
    /// It is in the archive.
    Archived,
    /// It is gone, is worked with again, or has a newer version.
    Superseded,
}

impl<E: Entity> Inner<E> {
    /// Hands an entity over, and settles its ticket whatever comes of it.
    #[tracing::instrument(
        name = "archive entity",
        skip_all,
        fields(collection = E::COLLECTION, attempt = ticket.attempts + 1)
    )]
    pub(super) async fn hand_over(&self, key: Bytes, ticket: Ticket) -> HandOver {
        let attempt = tokio::time::timeout(self.options.patience, self.attempt(&key)).await;
        let late = || Error::new(ErrorKind::Timeout, "archive entity");
        let outcome = match attempt.unwrap_or_else(|_| Err(late())) {
            Ok(attempt) => {
                self.schedule.lock().finish(&key, &ticket);
                match attempt {
                    Attempt::Archived => HandOver::Archived,
                    Attempt::Superseded => HandOver::Superseded,
                }
            }
            Err(error) => self.failed(&key, &ticket, &error).await,
        };
        HAND_OVERS.add_for(outcome, 1);
        told(self.schedule.lock().len());
        outcome
    }

    async fn attempt(&self, key: &Bytes) -> Result<Attempt> {
        let found = {
            let _turn = self.gates.enter(key).await;
            self.document(key).await?
        };
        let Some(document) = found else { return self.settle(key, Expected::Absent).await };
        if Vault::is_stub(&document.payload) {
            return self.settle(key, Expected::Exactly(document.version)).await;
        }
        let entity = E::decode(&document.payload)?;
        if entity.standing() == Standing::Active {
            return self.settle(key, Expected::Exactly(document.version)).await;
        }
        let (tags, now) = (entity.tags(), self.options.clock.wall());
        let archived = self.vault.archive(self.collection(), &document, tags, now).await?;
        let batch = Batch::new()
            .write(self.stub(&document, &archived)?)
            .delete(self.outbox.clone(), key.clone(), Expected::Any)
            .delete(self.dead.clone(), key.clone(), Expected::Any);
        match self.commit_as_read(key, batch).await {
            Ok(true) => Ok(Attempt::Archived),
            Ok(false) => self.withdraw(key, &archived).await,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                self.withdraw(key, &archived).await
            }
            Err(error) => Err(error),
        }
    }

    /// Commits what follows from an entity that was read, unless it was removed since.
    async fn commit_as_read(&self, key: &Bytes, batch: Batch) -> Result<bool> {
        let _turn = self.gates.enter(key).await;
        if self.schedule.lock().is_overtaken(key) {
            return Ok(false);
        }
        self.commit(batch, Box::new(Silent)).await.map(|_| true)
    }

    /// Puts an object's name in the place of the version that it holds.
    pub(super) fn stub(&self, document: &Document, archived: &Archived) -> Result<Write> {
        let time = by_time(archived.archived);
        let ours = [&self.indexes.kept, &self.indexes.archived, &self.indexes.tag];
        let own = document.terms.iter().filter(|term| !ours.contains(&&term.index));
        let mut terms: Vec<Term> = own.cloned().collect();
        terms.push(Term::new(self.indexes.archived.clone(), time.clone()));
        for tag in &archived.tags {
            let value = [tag.as_bytes(), &[0], &time].concat();
            terms.push(Term::new(self.indexes.tag.clone(), value));
        }
        Ok(Write::Put {
            collection: self.collection().clone(),
            key: document.key.clone(),
            expected: Expected::Exactly(document.version),
            payload: Vault::stub(archived)?,
            terms,
        })
    }

    /// Takes the row of an entity away that is not to be archived; that of one that was saved since
    /// stays.
    async fn settle(&self, key: &Bytes, seen: Expected) -> Result<Attempt> {
        let batch = Batch::new().check(self.collection().clone(), key.clone(), seen).delete(
            self.outbox.clone(),
            key.clone(),
            Expected::Any,
        );
        match self.commit_as_read(key, batch).await {
            Err(error) if !matches!(error.kind(), ErrorKind::Conflict { .. }) => Err(error),
            _ => Ok(Attempt::Superseded),
        }
    }

    /// Takes an object away whose entity changed before it could be named; the row belongs to the
    /// newer version, if that is to be archived.
    async fn withdraw(&self, key: &Bytes, archived: &Archived) -> Result<Attempt> {
        let found = self.document(key).await?;
        let stub = found.filter(|found| Vault::is_stub(&found.payload));
        let named = stub.map(|found| Vault::read_stub(&found.payload)).transpose()?;
        if named.is_none_or(|named| named.object != archived.object) {
            self.vault.delete(&archived.object).await?;
        }
        Ok(Attempt::Superseded)
    }

    async fn failed(&self, key: &Bytes, ticket: &Ticket, error: &Error) -> HandOver {
        let attempts = ticket.attempts + 1;
        let may_pass = error.is_transient() || *error.kind() == ErrorKind::Indeterminate;
        let now = self.options.clock.wall();
        if may_pass && attempts <= self.options.retries {
            let due = now.plus(self.options.backoff.pause_before(attempts));
            tracing::warn!(error = error as &dyn std::error::Error, attempts, "archive later");
            self.schedule.lock().retry(key, ticket, due);
            return HandOver::Retried;
        }
        tracing::error!(error = error as &dyn std::error::Error, attempts, "not archived");
        if self.bury(key, attempts, error).await.is_ok() {
            self.schedule.lock().finish(key, ticket);
            return HandOver::Dead;
        }
        // The store is out too: it is tried again when that is back.
        let due = now.plus(self.options.backoff.pause_before(attempts));
        self.schedule.lock().retry(key, ticket, due);
        HandOver::Retried
    }

    /// Moves a row from the outbox to the dead letters; the entity stays where it is.
    async fn bury(&self, key: &Bytes, attempts: u32, error: &Error) -> Result<()> {
        let version = self.document(key).await?.map(|found| found.version).unwrap_or_default();
        let letter = DeadLetter {
            key: key.clone(),
            version,
            attempts,
            reason: error.to_string(),
            given_up: self.options.clock.wall(),
        };
        let batch = Batch::new()
            .put(self.dead.clone(), key.clone(), Expected::Any, Payload::json(1, &letter)?)
            .delete(self.outbox.clone(), key.clone(), Expected::Any);
        self.documents().commit(batch).await.map(|_| ())
    }
}

/// The part of who need not be told.
#[derive(Debug)]
struct Silent;

impl crate::repository::Part for Silent {
    fn begin(&self) {}

    fn end(self: Box<Self>, _receipt: Option<&infra_core::store::Receipt>) {}
}
