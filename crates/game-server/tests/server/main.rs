//! The whole server over real sockets: what strangers, hostile peers and operators meet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::clone_on_ref_ptr,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod admin;
mod archive;
mod backup;
mod bad_input;
mod browser;
#[cfg(feature = "nats")]
mod bus;
mod chaos;
mod disk;
mod durable;
mod far;
mod faulty;
#[path = "../../examples/drive/faulty_disk.rs"]
mod faulty_disk;
mod forget;
mod generated;
mod handshake;
mod health;
mod late;
#[cfg(feature = "redis")]
mod limiter;
mod limits;
mod migrations;
mod newer;
mod observed;
mod options;
mod play;
#[path = "../../examples/drive/player.rs"]
mod player;
mod players;
#[cfg(feature = "postgres")]
mod postgres;
mod prometheus;
mod raw;
mod resume;
mod rights;
mod salvage;
#[cfg(all(feature = "postgres", feature = "redis", feature = "nats", feature = "s3"))]
mod stack;
mod support;
mod verify;
