//! Documents and leases in PostgreSQL.

mod commit;
mod documents;
mod error;
mod fate;
mod leases;
mod line;
mod options;
#[cfg(test)]
mod plans;
mod schema;

pub use self::{documents::PostgresDocuments, leases::PostgresLeases, options::PostgresOptions};
