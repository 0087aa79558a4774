//! The chance of a simulated game: the only source of randomness there.

use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha20Rng;

use crate::domain::{Entropy, GameView, Move, Phase, Pieces, PlayType, PlayerId, plays_of};

/// A stream of random numbers that belongs to one game of one seed.
pub(super) struct Chance(ChaCha20Rng);

impl Chance {
    /// Creates the stream of game `number`.
    pub(super) fn of_game(seed: u64, number: u64) -> Self {
        let mut stream = ChaCha20Rng::seed_from_u64(seed);
        stream.set_stream(number);
        Self(stream)
    }

    /// Returns the seed of a shuffle.
    pub(super) fn entropy(&mut self) -> Entropy {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        Entropy::new(bytes)
    }

    /// Returns a player nobody has met.
    pub(super) fn player(&mut self) -> PlayerId {
        PlayerId::from_uuid(uuid::Builder::from_random_bytes(self.0.random()).into_uuid())
    }

    /// Returns one of `choices`; none if there is none.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(self.0.random_range(0..choices.len().max(1))).copied()
    }

    /// Returns a random legal move of the seat whose view this is, if it is to act.
    pub(super) fn legal_move(&mut self, view: &GameView) -> Option<Move> {
        match view.phase {
            Phase::Preparation => self.pick(&[Move::AcceptRedeal, Move::DeclineRedeal]),
            Phase::Declaration => self.pick(&view.may_declare).map(Move::Declare),
            Phase::Turn => self.legal_play(view).map(Move::Play),
            Phase::Scoring => None,
        }
    }

    fn legal_play(&mut self, view: &GameView) -> Option<Pieces> {
        let hand = view.hand?;
        let Some(led) = view.table.first() else {
            let types = PlayType::ALL.into_iter();
            let plays: Vec<_> = types.flat_map(|play_type| plays_of(hand, play_type)).collect();
            return self.pick(&plays);
        };
        let mut pieces: Vec<_> = hand.iter().collect();
        pieces.shuffle(&mut self.0);
        Some(pieces.into_iter().take(led.pieces.len()).collect())
    }
}
