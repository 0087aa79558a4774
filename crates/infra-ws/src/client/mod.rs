//! Clients, for services that call others, tests, load generators and tools (feature `client`).
//!
//! A [`Client`] is one connection, as it is. [`Rooms`] speaks the protocol of
//! [`wire`](crate::wire) and stays connected: it comes back after short pauses while its server
//! restarts and after growing ones otherwise, resumes where it stopped, and follows the state of rooms.

mod followed;
mod heard;
mod hearing;
mod options;
mod pauses;
mod rooms;
mod socket;
mod work;

pub use self::{
    heard::Heard,
    options::RoomsOptions,
    rooms::Rooms,
    socket::{Client, Received},
};
