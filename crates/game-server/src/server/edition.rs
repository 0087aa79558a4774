//! Which version of the program may go on with the data: an older one refuses what a newer one wrote.

use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};

/// The version of all that this program writes, together. It is raised whenever an older program must
/// not go on: events, snapshots and stores have versions of their own besides.
pub(super) const EDITION: u32 = 1;

const CHECK: &str = "check edition of data";

/// Notes this program's version beside the data; to be called before anything else is written.
///
/// # Errors
///
/// [`Unsupported`](ErrorKind::Unsupported) if a newer program has written there, and nothing is written
/// then; what the store fails with.
///
/// # Cancel safety
///
/// Dropping the future leaves the note written or not; it may be repeated.
pub(super) async fn check(documents: &dyn DocumentStore) -> Result<()> {
    let collection = Collection::new("program")?;
    let found = documents.get(&collection, b"edition").await?;
    let found: Option<u32> = found.map(|document| document.decode()).transpose()?;
    match found {
        Some(found) if EDITION < found => {
            let detail = format!("it is {found}, this program knows {EDITION}");
            Err(Error::new(ErrorKind::Unsupported, CHECK).detail(detail))
        }
        Some(EDITION) => Ok(()),
        Some(_) | None => {
            let payload = Payload::json(1, &EDITION)?;
            let batch = Batch::new().put(collection, "edition", Expected::Any, payload);
            documents.commit(batch).await.map(|_| ())
        }
    }
}
