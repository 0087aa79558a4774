//! Clients, for services that call others, tests, load generators and tools (feature `client`).
//!
//! A [`Client`] is one connection, as it is. [`Rooms`] speaks the protocol of
//! [`wire`](crate::wire) and stays connected: it comes back after growing pauses, resumes where it
//! stopped, and follows the state of rooms.

mod followed;
mod heard;
mod hearing;
mod options;
mod rooms;
mod socket;
mod work;

pub use self::{
    heard::Heard,
    options::RoomsOptions,
    rooms::Rooms,
    socket::{Client, Received},
};
