//! Work that goes on when its caller goes.

use infra_core::{Error, ErrorKind, Result, context::Context};

/// Runs a piece of work to its end in a task of its own, with the caller's context; a panic of it is an error.
pub(crate) async fn detached<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = tokio::spawn(Context::carry(work));
    task.await
        .unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, operation).because(cause)))
}
