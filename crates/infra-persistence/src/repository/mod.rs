//! Repositories: typed documents, memory first, over any document store.

mod boards;
mod entity;
mod erasure;
mod limits;
mod names;
mod order;
mod pending;
mod resident;
mod residents;
mod results;
mod rooms;
mod shards;
mod slot_key;
mod statistics;
mod typed;
mod uses;

pub(crate) use self::pending::{Part, commit};
pub use self::{
    entity::{Entity, Standing, Stored},
    limits::{Limits, Overflow, Usage},
    results::{GameResult, Order, PlayerResult, RATED_GAMES, Statistics, Window},
    rooms::{RoomRecord, RoomStatus, Rooms},
    statistics::{Export, MAX_EXPORT, PlayerStatistics, Ranked, StatisticsUsage},
    typed::Repository,
};
