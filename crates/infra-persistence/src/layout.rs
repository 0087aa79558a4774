//! The keys of the ordered map, so made that nothing collides and byte order is the wanted order.
//!
//! ```text
//! d collection key                document
//! t collection index value key    term: found by value, then by key
//! h collection key version         older version and the present one, where history is kept
//! f scope                         highest fencing token
//! m                               number and digest of the last commit
//! v                               version of this layout
//! ```
//!
//! Parts that others follow are escaped (00 becomes 00 FF) and ended by 00 01, so that no part is
//! the beginning of another one and order is kept.

use std::ops::Bound;

use infra_core::{
    id::{Collection, IndexName, Scope},
    store::{Query, Scan, Term},
    version::Version,
};

use crate::engine::Range;

const DOCUMENT: u8 = b'd';
const TERM: u8 = b't';
const HISTORY: u8 = b'h';
const FENCE: u8 = b'f';

/// The key of the layout's version, four bytes from the lowest on.
pub(crate) const LAYOUT: &[u8] = b"v";

/// The version of this layout; a later one is refused. A store without one is of the first.
pub(crate) const VERSION: u32 = 1;

/// The key of the last commit's number.
pub(crate) const COMMIT: &[u8] = b"m";

fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 1]);
}

/// Reads a part and returns it with what follows.
fn unpart(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut part = Vec::new();
    loop {
        match bytes {
            [0, 1, rest @ ..] => return Some((part, rest)),
            [0, 0xff, rest @ ..] => {
                part.push(0);
                bytes = rest;
            }
            [0, ..] | [] => return None,
            [byte, rest @ ..] => {
                part.push(*byte);
                bytes = rest;
            }
        }
    }
}

/// Returns the end of all keys that begin with `prefix`.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Bound::Excluded(prefix);
        }
    }
    Bound::Unbounded
}

fn collection_of(kind: u8, collection: &Collection) -> Vec<u8> {
    let mut key = vec![kind];
    part(&mut key, collection.as_str().as_bytes());
    key
}

/// Returns the key of a document.
pub(crate) fn document(collection: &Collection, key: &[u8]) -> Vec<u8> {
    let mut at = collection_of(DOCUMENT, collection);
    at.extend_from_slice(key);
    at
}

/// Returns the document's own key from where it is.
pub(crate) fn key_of_document(at: &[u8]) -> Option<&[u8]> {
    unpart(at.strip_prefix(&[DOCUMENT])?).map(|(_, key)| key)
}

/// Returns the key of a version of a document.
pub(crate) fn version(collection: &Collection, key: &[u8], version: Version) -> Vec<u8> {
    let mut at = versions_of(collection, key);
    at.extend(version.get().to_be_bytes());
    at
}

fn versions_of(collection: &Collection, key: &[u8]) -> Vec<u8> {
    let mut at = collection_of(HISTORY, collection);
    part(&mut at, key);
    at
}

/// Returns where the versions of a document up to one are.
pub(crate) fn versions(collection: &Collection, key: &[u8], up_to: Version) -> Range {
    let low = versions_of(collection, key);
    (Bound::Included(low), Bound::Included(version(collection, key, up_to)))
}

/// Returns where a scan looks.
pub(crate) fn scan(collection: &Collection, scan: &Scan) -> Range {
    let mut low = collection_of(DOCUMENT, collection);
    low.extend_from_slice(&scan.prefix);
    let high = after_prefix(low.clone());
    let after = scan.after.as_ref().map(|after| document(collection, after));
    match (after, scan.is_reverse) {
        (None, _) => (Bound::Included(low), high),
        (Some(after), false) => (Bound::Excluded(after.max(low)), high),
        (Some(after), true) => (Bound::Included(low), lower(Bound::Excluded(after), high)),
    }
}

/// Returns the key of a document's term.
pub(crate) fn term(collection: &Collection, term: &Term, key: &[u8]) -> Vec<u8> {
    let mut at = term_value(collection, &term.index, &term.value);
    at.extend_from_slice(key);
    at
}

fn term_value(collection: &Collection, index: &IndexName, value: &[u8]) -> Vec<u8> {
    let mut at = collection_of(TERM, collection);
    part(&mut at, index.as_str().as_bytes());
    part(&mut at, value);
    at
}

/// Returns where the terms with one value are.
pub(crate) fn same_term(collection: &Collection, term: &Term) -> Range {
    let low = term_value(collection, &term.index, &term.value);
    let high = after_prefix(low.clone());
    (Bound::Included(low), high)
}

/// Returns the value and the document's key of a term.
pub(crate) fn read_term(at: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (_, rest) = unpart(at.strip_prefix(&[TERM])?)?;
    let (_, rest) = unpart(rest)?;
    unpart(rest)
}

/// Returns where a query looks.
pub(crate) fn query(collection: &Collection, query: &Query) -> Range {
    let mut all = collection_of(TERM, collection);
    part(&mut all, query.index.as_str().as_bytes());
    let value = |value: &[u8]| term_value(collection, &query.index, value);
    let low = match &query.from {
        Bound::Included(from) => Bound::Included(value(from)),
        Bound::Excluded(from) => match after_prefix(value(from)) {
            Bound::Excluded(next) => Bound::Included(next),
            end @ (Bound::Included(_) | Bound::Unbounded) => end,
        },
        Bound::Unbounded => Bound::Included(all.clone()),
    };
    let high = match &query.to {
        Bound::Included(to) => after_prefix(value(to)),
        Bound::Excluded(to) => Bound::Excluded(value(to)),
        Bound::Unbounded => after_prefix(all),
    };
    let Some((after_value, after_key)) = &query.after else { return (low, high) };
    let mut after = value(after_value);
    after.extend_from_slice(after_key);
    if query.is_reverse {
        return (low, lower(Bound::Excluded(after), high));
    }
    match low {
        Bound::Included(low) if after < low => (Bound::Included(low), high),
        Bound::Included(_) | Bound::Excluded(_) | Bound::Unbounded => {
            (Bound::Excluded(after), high)
        }
    }
}

/// Returns the lower of two upper bounds.
fn lower(one: Bound<Vec<u8>>, other: Bound<Vec<u8>>) -> Bound<Vec<u8>> {
    match (&one, &other) {
        (Bound::Excluded(a), Bound::Excluded(b)) if b < a => other,
        _ => one,
    }
}

/// Returns the key of a scope's fence.
pub(crate) fn fence(scope: &Scope) -> Vec<u8> {
    let mut at = vec![FENCE];
    at.extend_from_slice(scope.as_str().as_bytes());
    at
}

/// Returns whether a range holds nothing, which some engines refuse to be asked for.
pub(crate) fn is_empty(range: &Range) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => high < low,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high))
        | (Bound::Excluded(low), Bound::Included(high)) => high <= low,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 0..5)
    }

    proptest! {
        #[test]
        fn terms_read_back_and_keep_the_order_of_value_and_key(
            one in (bytes(), bytes()),
            other in (bytes(), bytes()),
        ) {
            let collection = Collection::new("c").unwrap();
            let at = |(value, key): &(Vec<u8>, Vec<u8>)| {
                let index = IndexName::new("i").unwrap();
                term(&collection, &Term::new(index, value.clone()), key)
            };
            prop_assert_eq!(at(&one).cmp(&at(&other)), one.cmp(&other));
            let found = at(&one);
            let (value, key) = read_term(&found).unwrap();
            prop_assert_eq!((value, key.to_vec()), one);
        }

        #[test]
        fn collections_never_share_a_key(one in "[a-c]{1,3}", other in "[a-c]{1,3}", a in bytes(), b in bytes()) {
            let at = |name: &str, key: &[u8]| document(&Collection::new(name).unwrap(), key);
            prop_assert_eq!(at(&one, &a) == at(&other, &b), (&one, &a) == (&other, &b));
            let found = at(&one, &a);
            prop_assert_eq!(key_of_document(&found).unwrap(), a.as_slice());
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_found_also_behind_the_last_byte() {
        assert_eq!(after_prefix(vec![1, 255]), Bound::Excluded(vec![2]));
        assert_eq!(after_prefix(vec![255, 255]), Bound::Unbounded);
        assert_eq!(unpart(&[0, 2]), None);
        assert_eq!(read_term(b"d"), None);
    }
}
