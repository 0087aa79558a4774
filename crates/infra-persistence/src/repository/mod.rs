//! Repositories: typed documents, memory first, over any document store.

mod boards;
mod entity;
mod limits;
mod pending;
mod residents;
mod rooms;
mod statistics;
mod typed;

pub(crate) use self::pending::{Part, commit};
pub use self::{
    entity::{Entity, Standing, Stored},
    limits::{Limits, Overflow, Usage},
    rooms::{RoomRecord, RoomStatus, Rooms},
    statistics::{
        Export, GameResult, MAX_EXPORT, Order, PlayerResult, PlayerStatistics, RATED_GAMES, Ranked,
        Statistics, StatisticsUsage, Window,
    },
    typed::Repository,
};
