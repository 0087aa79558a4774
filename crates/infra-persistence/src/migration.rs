//! Stored documents brought from one schema version to another, forward and back.

use std::collections::BTreeMap;

use infra_core::{
    Error, ErrorKind, Result,
    codec::{CodecTag, Payload},
    id::Collection,
    store::{Batch, DocumentStore, Scan, Write},
    version::Expected,
};
use serde_json::Value;

use crate::archive::Vault;

const MIGRATE: &str = "migrate documents";

/// How many documents are read at a time.
const PAGE: usize = 200;

/// One step between two versions.
type Step = fn(Value) -> Result<Value>;

/// The steps between the versions of a schema: each leads from one version to the next, and back.
///
/// ```
/// use infra_core::codec::Payload;
/// use infra_persistence::Migrations;
/// use serde_json::json;
///
/// let migrations = Migrations::new().step(
///     1,
///     |mut body| { body["score"] = json!(0); Ok(body) },
///     |mut body| { body.as_object_mut().map(|fields| fields.remove("score")); Ok(body) },
/// );
/// let old = Payload::json(1, &json!({ "name": "Ann" }))?;
/// let new = migrations.bring(&old, 2)?;
/// assert_eq!(new, Payload::json(2, &json!({ "name": "Ann", "score": 0 }))?);
/// assert_eq!(migrations.bring(&new, 1)?, old);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Migrations {
    /// Forward and back, by the lower version.
    steps: BTreeMap<u32, (Step, Step)>,
}

/// Whether a migration writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It does everything but write, and reports what it would have done.
    Dry,
    /// It writes.
    Write,
}

/// What a migration did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Migrated {
    /// Documents that were brought to the wanted version.
    pub changed: u64,
    /// Documents that had it already.
    pub same: u64,
    /// Archived entities; they are brought to it when they are read.
    pub archived: u64,
    /// Documents that another writer changed meanwhile: run it again.
    pub contended: u64,
    /// The keys of documents that no step leads on from, or whose step failed, with the reason; at
    /// most a hundred are named.
    pub failed: Vec<(String, String)>,
    /// How many failed.
    pub n_failed: u64,
}

impl Migrations {
    /// Creates migrations without a step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the step from `version` to the next one, and back.
    #[must_use]
    pub fn step(mut self, version: u32, forward: Step, back: Step) -> Self {
        self.steps.insert(version, (forward, back));
        self
    }

    /// Brings a body to a version.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if a step is missing or the body is no JSON, and what a
    /// step fails with.
    pub fn bring(&self, payload: &Payload, wanted: u32) -> Result<Payload> {
        if payload.schema == wanted {
            return Ok(payload.clone());
        }
        let refuse = |what: String| Error::new(ErrorKind::Unsupported, MIGRATE).detail(what);
        if payload.codec != CodecTag::Json {
            return Err(refuse("the body is no JSON".to_owned()));
        }
        let mut body: Value = payload.decode()?;
        let mut version = payload.schema;
        while version != wanted {
            let is_forward = version < wanted;
            let lower = if is_forward { version } else { version - 1 };
            let step = self.steps.get(&lower);
            let (forward, back) =
                step.ok_or_else(|| refuse(format!("no step between {lower} and {}", lower + 1)))?;
            body = if is_forward { forward(body)? } else { back(body)? };
            version = if is_forward { version + 1 } else { lower };
        }
        Payload::json(wanted, &body)
    }

    /// Brings every document of a collection to a version, page by page. Terms stay as they are;
    /// what an entity's terms are made of is to be saved through its repository.
    ///
    /// It may run while others write: a document that changes meanwhile is left to the next run. It
    /// may be stopped and run again.
    ///
    /// # Errors
    ///
    /// What the store fails with; what was written stays written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it between two documents.
    pub async fn run(
        &self,
        documents: &dyn DocumentStore,
        collection: &Collection,
        wanted: u32,
        run: Run,
    ) -> Result<Migrated> {
        let (mut report, mut scan) = (Migrated::default(), Scan::prefix("", PAGE));
        loop {
            let page = documents.scan(collection, scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(report) };
            scan.after = Some(last.key.clone());
            for document in page {
                if Vault::is_stub(&document.payload) {
                    report.archived += 1;
                    continue;
                }
                if document.payload.schema == wanted {
                    report.same += 1;
                    continue;
                }
                let payload = match self.bring(&document.payload, wanted) {
                    Ok(payload) => payload,
                    Err(error) => {
                        report.n_failed += 1;
                        if report.failed.len() < 100 {
                            let key = document.key.escape_ascii().to_string();
                            report.failed.push((key, error.to_string()));
                        }
                        continue;
                    }
                };
                if run == Run::Dry {
                    report.changed += 1;
                    continue;
                }
                let put = Write::Put {
                    collection: collection.clone(),
                    key: document.key,
                    expected: Expected::Exactly(document.version),
                    payload,
                    terms: document.terms,
                };
                match documents.commit(Batch::new().write(put)).await {
                    Ok(_) => report.changed += 1,
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                        report.contended += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
