//! Cold objects: the archive's store, the form of an archived entity, and the vault that keeps them.

mod object;
mod store;
mod vault;

pub use self::{
    store::Archive,
    vault::{Archived, Vault},
};
