//! Policies as tower layers, and the budget as a header of HTTP. The state is in what is given to a layer,
//! never in `layer()`: a router may call that once per route or per request.

mod guard;
mod header;

pub use self::{
    guard::{Guard, Guarded},
    header::{BudgetIn, BudgetOut, Receiving, Sending},
};
