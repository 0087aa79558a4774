//! Whether a batch may be committed, and what it changes then.

use std::{collections::HashSet, io, ops::RangeBounds};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::Collection,
    store::{Batch, Document, MAX_BODY, MAX_KEY, Term, Write},
    version::{Expected, FencingToken, Version},
};

use crate::{
    engine::{Change, Engine},
    layout, value,
};

const COMMIT: &str = "commit batch";

/// What a fitting batch does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Changes of the ordered map, in no particular order; each key stands once.
    pub(crate) changes: Vec<Change>,
    /// The version after each write of the batch.
    pub(crate) versions: Vec<Version>,
}

/// Damage that the engine found is corruption, anything else an outage.
pub(crate) fn io_error(operation: &'static str, cause: io::Error) -> Error {
    let is_damage =
        matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    let kind = if is_damage { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    Error::new(kind, operation).because(cause)
}

/// Reads a document.
pub(crate) fn read(
    engine: &dyn Engine,
    collection: &Collection,
    key: &[u8],
) -> Result<Option<Document>> {
    let at = layout::document(collection, key);
    let found = engine.get(&at).map_err(|cause| io_error("read document", cause))?;
    found.map(|value| value::decode(key, &at, &value)).transpose()
}

/// What holds for every write of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The time of the write.
    pub(crate) now: Timestamp,
    /// How many versions of each document are kept beside it.
    pub(crate) history: u64,
}

/// Judges a batch against what the engine holds.
pub(crate) fn judge(engine: &dyn Engine, batch: &Batch, rules: Rules) -> Result<Plan> {
    check_shape(batch)?;
    let mut plan = Plan::default();
    if let Some(fence) = &batch.fence {
        let at = layout::fence(&fence.scope);
        let stored = engine.get(&at).map_err(|cause| io_error(COMMIT, cause))?;
        let highest = stored.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let highest = FencingToken::new(highest.unwrap_or(0));
        if fence.token < highest {
            let (scope, token) = (&fence.scope, fence.token);
            let detail = format!("scope {scope}: token {token} is below {highest}");
            return Err(Error::new(ErrorKind::Fenced, COMMIT).detail(detail));
        }
        plan.changes.push((at, Some(fence.token.get().to_le_bytes().to_vec())));
    }
    let mut olds = Vec::with_capacity(batch.writes.len());
    for write in &batch.writes {
        let (collection, key, expected) = write.target();
        let old = read(engine, collection, key)?;
        let actual = old.as_ref().map_or(Version::ZERO, |document| document.version);
        if !expected.admits(actual) {
            let detail = format!("{collection}/{}", key.escape_ascii());
            return Err(Error::conflict(COMMIT, expected, actual).detail(detail));
        }
        olds.push(old);
    }
    let freed = freed(batch, &olds);
    for (write, old) in batch.writes.iter().zip(&olds) {
        plan_write(engine, &mut plan, (write, old.as_ref()), (rules, &freed))?;
    }
    Ok(plan)
}

/// The terms that the batch takes away from documents.
type Freed = HashSet<Vec<u8>>;

fn freed(batch: &Batch, olds: &[Option<Document>]) -> Freed {
    let changed = batch.writes.iter().zip(olds);
    let changed = changed.filter(|(write, _)| !matches!(write, Write::Check { .. }));
    let terms = changed.filter_map(|(write, old)| Some((write.target(), old.as_ref()?)));
    let terms = terms.flat_map(|((collection, key, _), old)| {
        old.terms.iter().map(move |term| layout::term(collection, term, key))
    });
    terms.collect()
}

fn plan_write(
    engine: &dyn Engine,
    plan: &mut Plan,
    (write, old): (&Write, Option<&Document>),
    (rules, freed): (Rules, &Freed),
) -> Result<()> {
    let (collection, key, _) = write.target();
    let old_terms = old.map_or(&[][..], |old| old.terms.as_slice());
    let old_version = old.map_or(Version::ZERO, |old| old.version);
    match write {
        Write::Check { .. } => plan.versions.push(old_version),
        Write::Delete { .. } => {
            for term in old_terms {
                plan.changes.push((layout::term(collection, term, key), None));
            }
            plan.changes.push((layout::document(collection, key), None));
            forget(engine, plan, (collection, key), (rules, Version::MAX))?;
            plan.versions.push(Version::ZERO);
        }
        Write::Put { payload, terms, .. } => {
            for term in terms.iter().filter(|term| term.is_unique) {
                check_unique(engine, plan, (collection, key), (term, freed))?;
            }
            for term in old_terms.iter().filter(|term| !terms.contains(term)) {
                plan.changes.push((layout::term(collection, term, key), None));
            }
            for term in terms {
                let flag = vec![u8::from(term.is_unique)];
                plan.changes.push((layout::term(collection, term, key), Some(flag)));
            }
            let version = old_version.next();
            let document = Document {
                key: key.clone(),
                version,
                payload: payload.clone(),
                terms: terms.clone(),
                written: rules.now,
            };
            if 0 < rules.history {
                let oldest = Version::new(version.get().saturating_sub(rules.history));
                forget(engine, plan, (collection, key), (rules, oldest))?;
                let at = layout::version(collection, key, version);
                let value = value::encode(&document, &at);
                plan.changes.push((at, Some(value)));
            }
            let at = layout::document(collection, key);
            let value = value::encode(&document, &at);
            plan.changes.push((at, Some(value)));
            plan.versions.push(version);
        }
    }
    Ok(())
}

/// Removes the kept versions of a document up to one.
fn forget(
    engine: &dyn Engine,
    plan: &mut Plan,
    (collection, key): (&Collection, &Bytes),
    (rules, up_to): (Rules, Version),
) -> Result<()> {
    if rules.history == 0 || up_to == Version::ZERO {
        return Ok(());
    }
    let mut visit = |at: &[u8], _: &[u8]| {
        plan.changes.push((at.to_vec(), None));
        true
    };
    let visited = engine.visit(layout::versions(collection, key, up_to), false, &mut visit);
    visited.map_err(|cause| io_error(COMMIT, cause))
}

/// Refuses a unique value that another document has and keeps, or gets in the same batch.
fn check_unique(
    engine: &dyn Engine,
    plan: &Plan,
    (collection, key): (&Collection, &Bytes),
    (term, freed): (&Term, &Freed),
) -> Result<()> {
    let own = layout::term(collection, term, key);
    let range = layout::same_term(collection, term);
    let bounds = range.clone();
    let within = |at: &Vec<u8>| RangeBounds::<Vec<u8>>::contains(&bounds, at);
    let planned = plan.changes.iter().filter(|(_, value)| value.is_some());
    let mut holder = planned.map(|(at, _)| at).find(|at| within(at) && **at != own).cloned();
    let mut look = |at: &[u8], _: &[u8]| {
        if at != own && !freed.contains(at) {
            holder = Some(at.to_vec());
        }
        holder.is_none()
    };
    if !layout::is_empty(&range) {
        engine.visit(range, false, &mut look).map_err(|cause| io_error(COMMIT, cause))?;
    }
    let Some(holder) = holder else { return Ok(()) };
    let who = layout::read_term(&holder).map(|(_, key)| key.escape_ascii().to_string());
    Err(Error::conflict(COMMIT, Expected::Absent, Version::new(1)).detail(format!(
        "unique {} of {collection} belongs to {}",
        term.index,
        who.unwrap_or_default()
    )))
}

pub(crate) fn check_shape(batch: &Batch) -> Result<()> {
    let mut seen = HashSet::new();
    for write in &batch.writes {
        let (collection, key, _) = write.target();
        let refuse = |why: String| {
            let detail = format!("{collection}/{}: {why}", key.escape_ascii());
            Err(Error::invalid(COMMIT, detail))
        };
        if MAX_KEY < key.len() {
            return refuse(format!("a key of {} bytes, at most {MAX_KEY}", key.len()));
        }
        if !seen.insert((collection, key)) {
            return refuse("the key stands twice".to_owned());
        }
        let Write::Put { payload, terms, .. } = write else { continue };
        if MAX_BODY < payload.body.len() {
            return refuse(format!("a body of {} bytes, at most {MAX_BODY}", payload.body.len()));
        }
        if let Some(long) = terms.iter().find(|term| MAX_KEY < term.value.len()) {
            return refuse(format!("a term of {} with {} bytes", long.index, long.value.len()));
        }
    }
    Ok(())
}
