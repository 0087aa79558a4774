//! What a failure of the object store means to a caller.

use infra_core::{
    Error, ErrorKind, Result,
    version::{Expected, Version},
};

/// Says what a failure means after which nothing has changed.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not understood is an outage")]
pub(super) fn failed(operation: &'static str, name: &str, error: object_store::Error) -> Error {
    use object_store::Error as Cause;
    let said = match &error {
        // Two conditional puts met; the server asks for another try, and took neither.
        Cause::AlreadyExists { .. } if mentions(&error, "ConditionalRequestConflict") => {
            Error::new(ErrorKind::Unavailable, operation)
        }
        Cause::AlreadyExists { .. } => {
            Error::conflict(operation, Expected::Absent, Version::new(1))
        }
        Cause::InvalidPath { .. } => Error::new(ErrorKind::Invalid, operation),
        Cause::NotSupported { .. } | Cause::NotImplemented { .. } => {
            Error::new(ErrorKind::Unsupported, operation)
        }
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => {
            Error::new(ErrorKind::Denied, operation)
        }
        _ => Error::new(ErrorKind::Unavailable, operation),
    };
    said.detail(format!("object {name:?}")).because(error)
}

/// Says what a failure of a write means: one that was sent and not answered may have happened.
pub(super) fn unsure(operation: &'static str, name: &str, error: object_store::Error) -> Error {
    if !is_unsure(&error) {
        return failed(operation, name, error);
    }
    let said = Error::new(ErrorKind::Indeterminate, operation);
    said.detail(format!("object {name:?}")).because(error)
}

#[cfg(not(feature = "s3"))]
const fn is_unsure(_error: &object_store::Error) -> bool {
    false
}

/// Whether the connection broke after the request, or the server broke over it.
#[cfg(feature = "s3")]
fn is_unsure(error: &object_store::Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    let transport = causes(error).find_map(|cause| cause.downcast_ref::<HttpError>());
    match transport.map(HttpError::kind) {
        Some(HttpErrorKind::Connect | HttpErrorKind::Request) => false,
        Some(_) => true,
        // A 503 refuses before anything is done; any other answer of its class leaves that open.
        None => {
            matches!(error, object_store::Error::Generic { .. })
                && mentions(error, "status code: 5")
                && !mentions(error, "503 Service Unavailable")
        }
    }
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: Option<&(dyn std::error::Error + 'static)> = Some(error);
    std::iter::successors(first, |cause| cause.source())
}

fn mentions(error: &object_store::Error, word: &str) -> bool {
    causes(error).any(|cause| cause.to_string().contains(word))
}

/// Returns `None` for an object that is not there; a bucket that is not there is an outage.
pub(super) fn found<T>(
    operation: &'static str,
    name: &str,
    said: object_store::Result<T>,
) -> Result<Option<T>> {
    match said {
        Ok(found) => Ok(Some(found)),
        Err(error @ object_store::Error::NotFound { .. }) if mentions(&error, "NoSuchBucket") => {
            Err(failed(operation, name, error))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(operation, name, error)),
    }
}
