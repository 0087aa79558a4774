//! A server of rooms: who is in them, what they hear, and what they missed.
//!
//! A [`RoomServer`] is an [`App`](crate::App) for a [`Hub`](crate::Hub). It speaks the protocol of
//! [`wire`](crate::wire) and asks a [`RoomHandler`] whatever is the application's to say: who a
//! client is, what it may, what an event looks like to it.

mod broadcast;
mod cluster;
mod conversation;
mod entering;
mod handler;
mod line;
mod options;
mod presence;
mod seats;
mod server;
mod state;
mod synced;
mod tokens;
mod upkeep;

pub use self::{
    broadcast::{Broadcast, Sent},
    cluster::Cluster,
    conversation::Talk,
    handler::{Denied, Identity, Life, Published, Role, RoomHandler, RoomState, Sight},
    options::RoomOptions,
    presence::Presence,
    seats::{SeatRefused, Seats},
    server::RoomServer,
    tokens::TokenBook,
};
