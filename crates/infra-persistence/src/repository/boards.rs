//! Boards of ranks in memory: each player's place in each order, kept as results come.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use infra_core::{store::Receipt, version::Version};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{
    pending::Part,
    results::{Order, Statistics, Window},
};
use crate::rank::Ranks;

/// The most boards that are kept; the one that was not asked for longest goes.
const BOARDS: usize = 16;

/// A window and its part.
pub(super) type Name = (Window, u32);

/// The places of one board.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Whether it was read from the store.
    pub(super) loaded: OnceCell<()>,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    orders: [Ranks<Vec<u8>>; 3],
    players: HashMap<Bytes, (Version, InOrders)>,
}

/// A player's place in each order.
type InOrders = [Option<Vec<u8>>; 3];

impl Board {
    /// Takes what a player has done in a version; an older one changes nothing.
    pub(super) fn learn(&self, key: &Bytes, version: Version, statistics: &Statistics) {
        let place = |order: Order| {
            let place = order.place(statistics)?;
            Some([place.as_ref(), key].concat())
        };
        let new = Order::ALL.map(place);
        let Places { orders, players } = &mut *self.places.lock();
        let known = players.get(key);
        if known.is_some_and(|(own, _)| version <= *own) {
            return;
        }
        let old = known.map(|(_, places)| places.clone()).unwrap_or_default();
        for (ranks, (old, new)) in orders.iter_mut().zip(old.iter().zip(&new)) {
            if let Some(old) = old {
                ranks.remove(old);
            }
            if let Some(new) = new {
                ranks.insert(new.clone());
            }
        }
        players.insert(key.clone(), (version, new));
    }

    /// Returns one more than the number of players who are strictly better.
    pub(super) fn rank(&self, order: Order, key: &Bytes) -> Option<u64> {
        let Places { orders, players } = &*self.places.lock();
        let at = Order::ALL.iter().position(|own| *own == order)?;
        let own = players.get(key)?.1.get(at)?.as_ref()?;
        // Who is as good has a place that begins alike, which is never below it.
        let place = own.get(..own.len() - key.len())?;
        Some(orders.get(at)?.below(place) as u64 + 1)
    }
}

/// The boards that were asked for.
#[derive(Debug, Default)]
pub(super) struct Boards {
    kept: Mutex<HashMap<Name, (u64, Arc<Board>)>>,
    asked: AtomicU64,
    built: AtomicU64,
}

impl Boards {
    /// Returns a board; one that is not kept is made, empty.
    pub(super) fn open(&self, name: Name) -> Arc<Board> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut boards = self.kept.lock();
        if let Some((last, board)) = boards.get_mut(&name) {
            *last = asked;
            return Arc::clone(board);
        }
        if BOARDS <= boards.len() {
            let oldest = boards.iter().min_by_key(|(_, (last, _))| *last).map(|(name, _)| *name);
            oldest.and_then(|name| boards.remove(&name));
        }
        self.built.fetch_add(1, Ordering::Relaxed);
        let board = Arc::<Board>::default();
        boards.insert(name, (asked, Arc::clone(&board)));
        board
    }

    /// Gives all boards up; those that are asked for are read again.
    pub(super) fn clear(&self) {
        self.kept.lock().clear();
    }

    pub(super) fn built(&self) -> u64 {
        self.built.load(Ordering::Relaxed)
    }
}

/// What a board is to learn if a batch is committed.
pub(super) struct Learned {
    /// The place in the batch.
    pub(super) place: usize,
    pub(super) name: Name,
    pub(super) key: Bytes,
    pub(super) after: Statistics,
}

/// Tells the boards of a commit, also if its caller has gone.
pub(super) struct Lesson {
    pub(super) boards: Arc<Boards>,
    pub(super) learned: Vec<Learned>,
}

impl Part for Lesson {
    fn begin(&self) {}

    fn end(self: Box<Self>, receipt: Option<&Receipt>) {
        for Learned { place, name, key, after } in &self.learned {
            let mut boards = self.boards.kept.lock();
            match receipt.and_then(|receipt| receipt.versions.get(*place)) {
                Some(version) => {
                    let board = boards.get(name).map(|(_, board)| Arc::clone(board));
                    drop(boards);
                    if let Some(board) = board {
                        board.learn(key, *version, after);
                    }
                }
                // It may have been committed or not: the board is read again.
                None => drop(boards.remove(name)),
            }
        }
    }
}
