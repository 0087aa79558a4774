//! Repositories: typed documents, memory first, over any document store.

mod entity;
mod recent;
mod rooms;
mod statistics;
mod typed;

pub use self::{
    entity::{Entity, Stored},
    rooms::{RoomRecord, RoomStatus, Rooms},
    statistics::{GameResult, Order, PlayerResult, PlayerStatistics, RATED_GAMES, Statistics},
    typed::Repository,
};
