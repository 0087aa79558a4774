//! How a queue lies in a collection of documents.
//!
//! ```text
//! m NUMBER  a message as it was published, with its end
//! p NUMBER  its counts and its time, once it was handed out or given back
//! d NUMBER  a dead letter
//! h NUMBER  the place of a dead letter that holds up its key
//! i ID      a dedup id, with the end of its window
//! z         whether it is paused
//! ```

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    id::Collection,
    store::{Document, DocumentStore, Scan},
};
use serde::{Deserialize, Serialize};

use super::{
    entry::Number,
    journal::{Change, Kept, Progress},
};
use crate::{
    codec::Codecs,
    wire::{Envelope, Record, VERSION, Wire},
};

/// How many documents are read at once.
const PAGE: usize = 1_000;

/// A message, dead letter or mark may be as large as a document.
const CODECS: Codecs = Codecs::new().max_bytes(infra_core::store::MAX_BODY);
const WIRE: Wire = Wire::with(CODECS);

const MESSAGE: u8 = b'm';
const PROGRESS: u8 = b'p';
const DEAD: u8 = b'd';
const HOLD: u8 = b'h';
const KNOWN: u8 = b'i';
const PAUSED: u8 = b'z';

/// Everything that was kept of a queue.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) messages: Vec<(Number, Kept)>,
    pub(crate) dead: Vec<(Number, infra_core::queue::DeadLetter)>,
    /// Dead letters that hold up their keys, and the places of their messages.
    pub(crate) parked: Vec<(Number, Number)>,
    pub(crate) known: Vec<(String, Timestamp)>,
    pub(crate) is_paused: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredMessage {
    message: Envelope,
    published: Timestamp,
    end: Option<Timestamp>,
    progress: StoredProgress,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredProgress {
    record: Record,
    from: Timestamp,
    is_leased: bool,
}

fn numbered(kind: u8, number: Number) -> Bytes {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

fn named(id: &str) -> Bytes {
    [&[KNOWN], id.as_bytes()].concat().into()
}

fn pack<T: Serialize>(value: &T) -> Result<Payload> {
    CODECS.encode(CodecTag::MessagePack, VERSION, value)
}

impl StoredProgress {
    fn new(progress: &Progress) -> Self {
        let Progress { attempts, history, from, is_leased } = progress;
        let record = Record::new(*attempts, history);
        Self { record, from: *from, is_leased: *is_leased }
    }

    fn read(self) -> Progress {
        let (attempts, history) = self.record.read();
        Progress { attempts, history, from: self.from, is_leased: self.is_leased }
    }
}

/// Returns the documents that a change writes or removes.
pub(crate) fn documents(change: &Change) -> Result<Vec<(Bytes, Option<Payload>)>> {
    Ok(match change {
        Change::Added(number, kept) => {
            let (message, published, end) = ((&kept.message).into(), kept.published, kept.end);
            let progress = StoredProgress::new(&kept.progress);
            let stored = StoredMessage { message, published, end, progress };
            vec![(numbered(MESSAGE, *number), Some(pack(&stored)?))]
        }
        Change::Moved(number, progress) => {
            vec![(numbered(PROGRESS, *number), Some(pack(&StoredProgress::new(progress))?))]
        }
        Change::Gone(number) => {
            vec![(numbered(MESSAGE, *number), None), (numbered(PROGRESS, *number), None)]
        }
        Change::Died(number, letter) => {
            let letter = WIRE.encode_letter(CodecTag::MessagePack, letter)?;
            vec![(numbered(DEAD, *number), Some(letter))]
        }
        Change::Buried(number) => {
            vec![(numbered(DEAD, *number), None), (numbered(HOLD, *number), None)]
        }
        Change::Parked(number, place) => vec![(numbered(HOLD, *number), Some(pack(place)?))],
        Change::Learnt(id, end) => vec![(named(id), Some(pack(end)?))],
        Change::Forgot(id) => vec![(named(id), None)],
        Change::Paused(paused) => {
            vec![(Bytes::from_static(&[PAUSED]), paused.then(|| pack(&true)).transpose()?)]
        }
    })
}

/// Reads everything that was kept.
pub(crate) async fn load(store: &dyn DocumentStore, collection: &Collection) -> Result<Stored> {
    let mut stored = Stored::default();
    let mut scan = Scan::prefix(Bytes::new(), PAGE);
    // `p` comes after `m`, so a message is there before what became of it.
    loop {
        let page = store.scan(collection, scan.clone()).await?;
        let Some(last) = page.last() else { return Ok(stored) };
        scan.after = Some(last.key.clone());
        for document in page {
            stored.take(&document)?;
        }
    }
}

impl Stored {
    fn take(&mut self, document: &Document) -> Result<()> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "read queue");
        let (kind, rest) = document.key.split_first().ok_or_else(corrupt)?;
        let number = || rest.try_into().map(Number::from_be_bytes).map_err(|_| corrupt());
        match *kind {
            MESSAGE => self.messages.push((number()?, message(&document.payload)?)),
            PROGRESS => {
                let progress: StoredProgress = CODECS.decode(&document.payload)?;
                let number = number()?;
                let place = self.messages.binary_search_by_key(&number, |(number, _)| *number);
                if let Some((_, kept)) = place.ok().and_then(|at| self.messages.get_mut(at)) {
                    kept.progress = progress.read();
                }
            }
            DEAD => self.dead.push((number()?, WIRE.decode_letter(&document.payload)?)),
            HOLD => self.parked.push((number()?, CODECS.decode(&document.payload)?)),
            KNOWN => {
                let id = String::from_utf8(rest.to_vec()).map_err(|_| corrupt())?;
                self.known.push((id, CODECS.decode(&document.payload)?));
            }
            PAUSED => self.is_paused = true,
            other => return Err(corrupt().detail(format!("a document of kind {other}"))),
        }
        Ok(())
    }
}

fn message(payload: &Payload) -> Result<Kept> {
    let stored: StoredMessage = CODECS.decode(payload)?;
    let message = stored.message.try_into()?;
    let (published, end) = (stored.published, stored.end);
    Ok(Kept { message, published, end, progress: stored.progress.read() })
}
