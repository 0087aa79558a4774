//! The game of Liap Tui as a pure domain: no I/O, no time, no randomness of its own.
//!
//! A [`Room`] is its event stream. [`Command`]s come in, [`Event`]s come out; [`view`] and
//! [`Room::view`] are all that anybody outside ever sees of them.

mod bot;
mod bounds;
mod chair;
mod check;
mod clockwork;
mod command;
mod deal;
mod decide;
mod declaration;
mod due;
mod event;
mod evolve;
mod game;
mod lobby;
mod moves;
mod odds;
mod piece;
mod pieces;
mod play;
mod player;
mod refusal;
mod room;
mod room_view;
mod round;
mod scoring;
mod seat;
mod settings;
mod text;
mod turn;
mod view;

pub use bot::choose;
pub use bounds::{Bounds, Limit};
pub use chair::Answer;
pub use command::{Act, Actor, Command, Entropy};
pub use deal::{HAND, WEAK_POINTS, deal, is_weak};
pub use declaration::{ZEROS_IN_A_ROW, allowed_declarations, check_declaration};
pub use due::{Awaited, Due};
pub use event::{AbandonReason, Cause, Event, Hands};
pub use moves::Move;
pub use piece::{Colour, Kind, PIECES, Piece};
pub use pieces::Pieces;
pub use play::{LONGEST_PLAY, Play, PlayType, classify, plays_of};
pub use player::{ActionNumber, PlayerId, Style};
pub use refusal::Refusal;
pub use room::{RECENT_CHAT, Room};
pub use room_view::{ChatView, GameView, Laid, Phase, ResultView, RoomView, SeatView, Status};
pub use scoring::{LAST_ROUND, WINNING_SCORE, is_over, score, winners};
pub use seat::{BySeat, SEATS, Seat};
pub use settings::{Millis, Settings};
pub use text::{ChatText, Name, Text, TextError};
pub use turn::strongest;
pub use view::{Viewed, Viewer, is_shared, view};
