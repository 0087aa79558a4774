//! Several changes as one: all of them happen, with their messages, or none.

mod outbox;
mod work;

pub use self::{
    outbox::{Outbox, OutboxMessage},
    work::{Savepoint, UnitOfWork},
};
