//! Questions about the fields of JSON bodies: filter, sort and page over any document store.

use std::{cmp::Ordering, ops::Bound};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    codec::CodecTag,
    id::Collection,
    store::{Document, DocumentStore, Query, Scan},
};
use serde_json::Value;

/// How many documents are read at a time.
const PAGE: usize = 500;

/// What must hold of a document's body. A path names nested fields, divided by dots; a number names
/// an element of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Anything.
    Any,
    /// The field is there and equal.
    Equals(String, Value),
    /// The field is there and lies between, in the order of [`compare`].
    Between(String, Bound<Value>, Bound<Value>),
    /// The field is there.
    Has(String),
    /// All of them hold.
    All(Vec<Self>),
    /// One of them holds.
    Either(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
}

/// A field to sort by. Documents without it come first, or last where the order is descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The path of the field.
    pub path: String,
    /// From the highest to the lowest.
    pub is_descending: bool,
}

/// A question: which documents, in which order, which part of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// What must hold.
    pub filter: Filter,
    /// What they are sorted by, the first field first; then by key.
    pub sort: Vec<Sort>,
    /// How many are left out at the beginning.
    pub offset: usize,
    /// At most this many; zero means none.
    pub limit: usize,
    /// Where to look: an index that holds at least all that fit, or the whole collection.
    pub within: Option<Query>,
}

impl Select {
    /// Creates a question for up to `limit` documents that fit, in the order of their keys.
    pub const fn new(filter: Filter, limit: usize) -> Self {
        Self { filter, sort: Vec::new(), offset: 0, limit, within: None }
    }

    /// Sorts by a field, after those that were named before.
    #[must_use]
    pub fn sort(mut self, path: impl Into<String>, is_descending: bool) -> Self {
        self.sort.push(Sort { path: path.into(), is_descending });
        self
    }

    /// Leaves the first ones out.
    #[must_use]
    pub const fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Looks in an index alone; its limit and place are ignored.
    #[must_use]
    pub fn within(mut self, query: Query) -> Self {
        self.within = Some(query);
        self
    }
}

/// Compares fields: what is not there, null, false, true, numbers, texts, lists, maps, in this order.
pub fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    let rank = |value: Option<&Value>| match value {
        None => 0,
        Some(Value::Null) => 1,
        Some(Value::Bool(_)) => 2,
        Some(Value::Number(_)) => 3,
        Some(Value::String(_)) => 4,
        Some(Value::Array(_)) => 5,
        Some(Value::Object(_)) => 6,
    };
    match (one, other) {
        (Some(Value::Bool(one)), Some(Value::Bool(other))) => one.cmp(other),
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            if let (Some(one), Some(other)) = (one.as_i128(), other.as_i128()) {
                return one.cmp(&other);
            }
            let float = |number: &serde_json::Number| number.as_f64().unwrap_or(f64::MAX);
            float(one).total_cmp(&float(other))
        }
        (Some(Value::String(one)), Some(Value::String(other))) => one.cmp(other),
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            let pairs = one.iter().zip(other).map(|(a, b)| compare(Some(a), Some(b)));
            let first = pairs.into_iter().find(|order| order.is_ne());
            first.unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let text = |map| serde_json::to_string(map).unwrap_or_default();
            text(one).cmp(&text(other))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

/// Returns the field that a path names.
fn field<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(body, |value, name| match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

impl Filter {
    /// Creates a filter for a field that is equal to a value.
    pub fn equals(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Equals(path.into(), value.into())
    }

    /// Returns whether it holds of a body.
    pub fn holds(&self, body: &Value) -> bool {
        let order = |path: &str, value: &Value| compare(field(body, path), Some(value));
        match self {
            Self::Any => true,
            Self::Equals(path, value) => order(path, value).is_eq(),
            Self::Between(path, from, to) => {
                let is_above = match from {
                    Bound::Unbounded => true,
                    Bound::Included(from) => order(path, from).is_ge(),
                    Bound::Excluded(from) => order(path, from).is_gt(),
                };
                let is_below = match to {
                    Bound::Unbounded => true,
                    Bound::Included(to) => order(path, to).is_le(),
                    Bound::Excluded(to) => order(path, to).is_lt(),
                };
                field(body, path).is_some() && is_above && is_below
            }
            Self::Has(path) => field(body, path).is_some(),
            Self::All(all) => all.iter().all(|filter| filter.holds(body)),
            Self::Either(any) => any.iter().any(|filter| filter.holds(body)),
            Self::Not(filter) => !filter.holds(body),
        }
    }
}

/// A document with what it is sorted by.
type Row = (Document, Value);

fn order(select: &Select, (one, a): &Row, (other, b): &Row) -> Ordering {
    let fields = select.sort.iter().map(|sort| {
        let order = compare(field(a, &sort.path), field(b, &sort.path));
        if sort.is_descending { order.reverse() } else { order }
    });
    let first = fields.into_iter().find(|order| order.is_ne());
    first.unwrap_or_else(|| one.key.cmp(&other.key))
}

/// Questions about the fields of JSON bodies, for every document store.
#[async_trait]
pub trait SelectExt: DocumentStore {
    /// Returns the documents that a question asks for. It reads all documents of the collection, or
    /// of the index that is named, and keeps no more than are asked for in memory.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) for a body that is no JSON, and what the store fails
    /// with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn select(&self, collection: &Collection, select: &Select) -> Result<Vec<Document>> {
        let wanted = select.offset.saturating_add(select.limit);
        let mut rows: Vec<Row> = Vec::new();
        if select.limit == 0 {
            return Ok(Vec::new());
        }
        let keep = |rows: &mut Vec<Row>| {
            rows.sort_by(|one, other| order(select, one, other));
            rows.truncate(wanted);
        };
        let mut after = None;
        loop {
            let page = page(self, collection, select.within.as_ref(), &mut after).await?;
            if page.is_empty() {
                break;
            }
            for document in page {
                let body = body(&document)?;
                if select.filter.holds(&body) {
                    rows.push((document, body));
                }
            }
            if wanted.saturating_add(PAGE) < rows.len() {
                keep(&mut rows);
            }
        }
        keep(&mut rows);
        Ok(rows.into_iter().skip(select.offset).map(|(document, _)| document).collect())
    }

    /// Counts the documents that fit.
    ///
    /// # Errors
    ///
    /// As for [`SelectExt::select`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn count_where(&self, collection: &Collection, filter: &Filter) -> Result<u64> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = page(self, collection, None, &mut after).await?;
            if page.is_empty() {
                return Ok(count);
            }
            for document in &page {
                count += u64::from(filter.holds(&body(document)?));
            }
        }
    }
}

impl<S: DocumentStore + ?Sized> SelectExt for S {}

fn body(document: &Document) -> Result<Value> {
    if document.payload.codec != CodecTag::Json {
        let error = Error::new(ErrorKind::Unsupported, "select documents");
        return Err(error.detail(format!("the body of {} is no JSON", document.key.escape_ascii())));
    }
    document.decode()
}

/// Reads the next page of a collection or of an index.
async fn page<S: DocumentStore + ?Sized>(
    store: &S,
    collection: &Collection,
    within: Option<&Query>,
    after: &mut Option<(Bytes, Bytes)>,
) -> Result<Vec<Document>> {
    let Some(query) = within else {
        let after_key = after.as_ref().map(|(_, key)| key.clone());
        let scan = Scan { after: after_key, ..Scan::prefix("", PAGE) };
        let found = store.scan(collection, scan).await?;
        *after = found.last().map(|last| (Bytes::new(), last.key.clone()));
        return Ok(found);
    };
    let query = Query { after: after.clone(), limit: PAGE, is_reverse: false, ..query.clone() };
    let found = store.query(collection, query.clone()).await?;
    *after = found.last().and_then(|last| {
        let fits = |value: &&Bytes| {
            std::ops::RangeBounds::contains(&(query.from.clone(), query.to.clone()), *value)
        };
        let own = last.terms.iter().filter(|term| term.index == query.index);
        own.map(|term| &term.value)
            .filter(fits)
            .max()
            .map(|value| (value.clone(), last.key.clone()))
    });
    Ok(found)
}
