//! What clients and the server say to each other: the wire types of `docs/protocol.md`.
//!
//! Everything here is pure: bytes in, values out, and back. [`decode`] is bounded before it
//! parses and names what it refuses; [`ServerMessage::encode`] is its counterpart. The events and
//! states inside are those of [`crate::domain`], serialized.

pub mod admin;
mod client;
mod close;
mod code;
mod decode;
mod diagram;
#[cfg(test)]
mod document;
mod emoji;
mod fields;
mod limits;
mod malformed;
mod position;
mod problem;
mod room_code;
mod scan;
mod server;
mod strict;
mod token;

pub use client::{Ask, ClientMessage, Numbered, Request, Resume};
pub use close::{Advice, Close};
pub use code::{Code, ErrorCode, Setback};
pub use decode::decode;
pub use diagram::diagram;
pub(crate) use diagram::{STAGE_EDGES, WAYS};
pub use emoji::Emoji;
pub(crate) use limits::STORAGE_PAUSE;
pub use limits::{
    BAD_MESSAGES, BAD_MESSAGES_WINDOW, DEPTH, GREATEST_NUMBER, LISTED_ROOMS, Limits, MESSAGE_BYTES,
    PROTOCOL, SERVER_MESSAGE_BYTES,
};
pub use malformed::Malformed;
pub use position::{Epoch, Position};
pub use problem::Problem;
pub use room_code::RoomCode;
pub use server::{
    Ack, Fault, Joined, LeftReason, NotResumedReason, Presence, Refused, Resumed, RoomSummary,
    ServerMessage, Token, Welcome, Why,
};
pub use token::TokenText;
