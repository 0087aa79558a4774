//! Cold objects: the archive's store, the form of an archived entity, and the vault that keeps them.

mod failure;
#[cfg(feature = "s3")]
mod https;
mod object;
#[cfg(feature = "s3")]
mod s3;
mod store;
mod vault;

#[cfg(feature = "s3")]
pub use self::s3::S3Options;
pub use self::{
    store::Archive,
    vault::{Archived, Vault},
};
