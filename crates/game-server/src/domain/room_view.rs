//! The state of a room as one viewer sees it.

use serde::{Deserialize, Serialize};

use super::{
    bounds::Limit,
    declaration::allowed_declarations,
    game::Game,
    pieces::Pieces,
    play::PlayType,
    player::{ActionNumber, Style},
    room::Room,
    seat::{BySeat, Seat},
    settings::Settings,
    text::{ChatText, Name},
    view::Viewer,
};

/// What a room is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Players gather; a seat is free.
    Waiting,
    /// All four seats are taken; the host can start.
    Ready,
    /// The game is played.
    InGame,
    /// The game has ended.
    Completed,
    /// The room was given up.
    Abandoned,
}

/// The phases of a game that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A weak hand is asked whether it wants a redeal.
    Preparation,
    /// The seats declare.
    Declaration,
    /// The seats play.
    Turn,
    /// The scores of the round are shown.
    Scoring,
}

/// The whole state of a room, as one viewer may see it at one offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomView {
    /// How many events this is the sum of; the next event has the offset after it.
    pub offset: u64,
    /// The viewer's seat; none for a spectator.
    pub viewer: Option<Seat>,
    /// What the room is doing.
    pub status: Status,
    /// The room's settings.
    pub settings: Settings,
    /// The host's seat.
    pub host: Option<Seat>,
    /// Who sits where.
    pub seats: BySeat<SeatView>,
    /// The game, once it has begun; after its end, as it ended.
    pub game: Option<GameView>,
    /// How the game ended.
    pub result: Option<ResultView>,
    /// The last things that were said, oldest first.
    pub chat: Vec<ChatView>,
    /// The viewer's last numbered action that was answered.
    pub last_action: Option<ActionNumber>,
}

/// Who sits on a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "occupant", rename_all = "snake_case")]
pub enum SeatView {
    /// Nobody.
    Free {},
    /// A person.
    Person {
        /// The person's name.
        name: Name,
        /// Whether a bot plays for it, because it did not answer in time.
        silent: bool,
    },
    /// A bot.
    Bot {
        /// The bot's name.
        name: Name,
        /// How it plays.
        style: Style,
    },
}

/// A game as one viewer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameView {
    /// What is being done.
    pub phase: Phase,
    /// The seat that is to act; none while the scores are shown and after the end.
    pub awaited: Option<Seat>,
    /// The round, from 1.
    pub round: u8,
    /// What the round's scores are multiplied by.
    pub multiplier: u16,
    /// Who declares and plays first in this round.
    pub starter: Seat,
    /// The viewer's own hand; a spectator has none.
    pub hand: Option<Pieces>,
    /// How many pieces each seat holds.
    pub hand_sizes: BySeat<u8>,
    /// What each seat has declared.
    pub declared: BySeat<Option<u8>>,
    /// The numbers that the viewer may declare; empty unless it is to declare now.
    pub may_declare: Vec<u8>,
    /// How many piles each seat has captured.
    pub captured: BySeat<u8>,
    /// The scores.
    pub scores: BySeat<i32>,
    /// In how many rounds in a row, up to the last one, each seat declared 0; two is the most.
    pub zeros: BySeat<u8>,
    /// Who starts the present turn.
    pub leader: Seat,
    /// What was put down in the present turn, in order.
    pub table: Vec<Laid>,
    /// What was put down in the turn before, in order; empty in the first turn of a round.
    pub last_table: Vec<Laid>,
    /// Every piece that was put down in this round.
    pub gone: Pieces,
}

/// What a seat put down in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Laid {
    /// The seat.
    pub seat: Seat,
    /// The pieces.
    pub pieces: Pieces,
    /// What they are as a play, if they are a valid one.
    pub play: Option<PlayType>,
    /// Whether the play is valid and of the starter's type.
    pub can_win: bool,
}

/// How a game ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultView {
    /// How many rounds were played.
    pub rounds: u8,
    /// Who sat where at the end.
    pub names: BySeat<Option<Name>>,
    /// The final scores.
    pub scores: BySeat<i32>,
    /// Who shares the highest score.
    pub winners: Vec<Seat>,
    /// The bound that ended it before the rules did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatView {
    /// The offset of the event.
    pub offset: u64,
    /// The seat.
    pub seat: Seat,
    /// The name of who sat there.
    pub name: Name,
    /// What was said.
    pub text: ChatText,
}

impl Room {
    /// Returns the whole state as `viewer` may see it; nothing before the room was created.
    ///
    /// Rooms that differ only in what the viewer cannot know have equal views.
    pub fn view(&self, viewer: Viewer) -> Option<RoomView> {
        let own_chair = viewer.seat().map(|seat| &self.chairs[seat]);
        Some(RoomView {
            offset: self.offset,
            viewer: viewer.seat(),
            status: self.status()?,
            settings: self.settings,
            host: self.host,
            seats: BySeat::from_fn(|seat| self.chairs[seat].occupant.view()),
            game: self.game_view(viewer),
            result: self.result.clone(),
            chat: self.chat.clone(),
            last_action: own_chair.and_then(|chair| chair.answered).map(|last| last.action),
        })
    }

    pub(super) fn game_view(&self, viewer: Viewer) -> Option<GameView> {
        let game = self.game.as_ref()?;
        let round = &game.round;
        let phase = round.phase();
        let awaited = self.running().and_then(Game::awaited);
        let is_asked = |seat: &Seat| phase == Phase::Declaration && awaited == Some(*seat);
        let declarer = viewer.seat().filter(is_asked);
        let allowed = |seat: Seat| allowed_declarations(game.zeros[seat], &round.declared);
        Some(GameView {
            phase,
            awaited,
            round: round.number,
            multiplier: round.multiplier,
            starter: round.starter,
            hand: viewer.seat().map(|seat| round.hands.0[seat]),
            hand_sizes: BySeat::from_fn(|seat| {
                u8::try_from(round.hands.0[seat].len()).unwrap_or(u8::MAX)
            }),
            declared: round.declared,
            may_declare: declarer.map(allowed).unwrap_or_default(),
            captured: round.captured,
            scores: game.scores,
            zeros: game.zeros,
            leader: round.leader,
            table: round.table.clone(),
            last_table: round.last_table.clone(),
            gone: round.gone,
        })
    }
}
