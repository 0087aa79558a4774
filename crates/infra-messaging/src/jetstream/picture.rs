//! Images of a queue beside its log, so that the log can be cut.
//!
//! ```text
//! PREFIX.image.ID.N  the parts of an image
//! PREFIX.head        which image counts, and after which entry it was taken
//! ```
//!
//! An image counts once the head names it; the head is replaced by compare-and-set, so of two
//! processes that write one at the same time one wins. Images before it are removed after that, and
//! the log up to the image before it: a process that is a little behind still hears what it missed.

use bytes::{Bytes, BytesMut};
use infra_core::{Error, ErrorKind, Result, clock::Timestamp, codec::Codec as _, random::Random};
use serde::{Deserialize, Serialize};

use super::{
    replica::Replica,
    server::{Added, Link, failed},
};
use crate::{
    codec::MessagePack,
    queue::{Image, Options},
};

const WRITE: &str = "write image of queue";
const READ: &str = "read image of queue";

/// The bytes of a part at most.
const PART: usize = 512 * 1_024;

/// The parts of an image at most.
const MAX_PARTS: u32 = 16_384;

/// Which image counts.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    v: u32,
    id: u64,
    parts: u32,
    /// The image holds everything up to this entry of the log.
    applied: u64,
    /// The time of that entry.
    at: Timestamp,
}

/// Returns the newest image as a replica, if there is one.
pub(super) async fn load(link: &Link, options: Options) -> Result<Option<Replica>> {
    let Some((_, head)) = head(link).await? else { return Ok(None) };
    if head.v != 1 {
        let detail = format!("version {}", head.v);
        return Err(Error::new(ErrorKind::Unsupported, READ).detail(detail));
    }
    let mut body = BytesMut::new();
    for number in 0..head.parts.min(MAX_PARTS) {
        match link.last(&link.images, part(link, head.id, number)).await? {
            Some((_, bytes)) => body.extend_from_slice(&bytes),
            None => return Err(missing(link, head.id, number).await?),
        }
    }
    let image: Image = MessagePack::decode(&body)?;
    Replica::from_image(options, image, head.applied, head.at).map(Some)
}

/// Returns what it means that a part is not there: parts are removed once another image counts, and
/// whoever asks again finds that one.
async fn missing(link: &Link, id: u64, number: u32) -> Result<Error> {
    let detail = format!("part {number} of image {id:016x} is not there");
    let still_counts = head(link).await?.is_some_and(|(_, head)| head.id == id);
    let kind = if still_counts { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    Ok(Error::new(kind, READ).detail(detail))
}

async fn head(link: &Link) -> Result<Option<(u64, Head)>> {
    let found = link.last(&link.images, format!("{}.head", link.prefix)).await?;
    found.map(|(sequence, body)| Ok((sequence, MessagePack::decode(&body)?))).transpose()
}

fn part(link: &Link, id: u64, number: u32) -> String {
    format!("{}.image.{id:016x}.{number}", link.prefix)
}

/// An image that is on its way to the server.
#[derive(Debug)]
pub(super) struct Picture {
    body: Bytes,
    applied: u64,
    at: Timestamp,
}

impl Picture {
    pub(super) fn of(replica: &Replica) -> Result<Self> {
        let body = MessagePack::encode(&replica.state.image())?;
        Ok(Self { body, applied: replica.applied, at: replica.at() })
    }

    /// Writes the image, and removes what nobody needs any more. Nothing happens if one is there
    /// that is about as new.
    pub(super) async fn save(self, link: Link) -> Result<()> {
        let before = head(&link).await?;
        // Several processes come to this at about the same time; one image is enough for them.
        let least = link.cut_log_every / 2;
        if before.as_ref().is_some_and(|(_, head)| self.applied <= head.applied + least) {
            return Ok(());
        }
        let id = Random::from_system().next_u64();
        let (first, parts) = self.write_parts(&link, id).await?;
        let Self { applied, at, .. } = self;
        let head = MessagePack::encode(&Head { v: 1, id, parts, applied, at })?;
        let (after, cut) = before.map_or((0, 0), |(sequence, head)| (sequence, head.applied));
        match link.add(format!("{}.head", link.prefix), head, after).await {
            Added::At(_) => {
                purge(&link, &link.stream, link.log(), cut).await?;
                purge(&link, &link.images, format!("{}.image.>", link.prefix), first).await
            }
            // Somebody else was quicker; what was written is removed with the next image.
            Added::Behind => Ok(()),
            Added::Lost => Err(failed(WRITE, "no answer")),
        }
    }

    /// Returns the sequence of the first part, and how many there are.
    async fn write_parts(&self, link: &Link, id: u64) -> Result<(u64, u32)> {
        let (mut first, mut number) = (None, 0);
        for bytes in self.body.chunks(PART.min(link.report.max_batch_bytes)) {
            if MAX_PARTS <= number {
                let detail = format!("{} bytes", self.body.len());
                return Err(Error::new(ErrorKind::Invalid, WRITE).detail(detail));
            }
            let bytes = self.body.slice_ref(bytes);
            match link.add(part(link, id, number), bytes, 0).await {
                Added::At(sequence) => _ = first.get_or_insert(sequence),
                Added::Behind | Added::Lost => return Err(failed(WRITE, "no answer")),
            }
            number += 1;
        }
        Ok((first.unwrap_or(0), number))
    }
}

/// Removes what a stream has of a subject before a sequence.
async fn purge(link: &Link, stream: &str, subject: String, before: u64) -> Result<()> {
    // Nothing is before the first, and servers take that sequence for none: they remove everything.
    if before <= 1 {
        return Ok(());
    }
    let stream = link.context.get_stream_no_info(stream).await;
    let stream = stream.map_err(|cause| failed(WRITE, cause))?;
    let purged = stream.purge().filter(subject).sequence(before).await;
    purged.map(|_| ()).map_err(|cause| failed(WRITE, cause))
}
