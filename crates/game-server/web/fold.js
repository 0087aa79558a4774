// How an event changes the state of a room, as docs/protocol.md section 6 says. Pure: it returns a
// new state and leaves the old one alone.

import { HAND, allowedDeclarations } from "./rules.js";

const SEATS = [0, 1, 2, 3];
const CHAT = 20;

/** Returns the state after `event`, which has this `offset`. */
export function fold(before, offset, event) {
  const state = structuredClone(before);
  state.offset = offset;
  EVENTS[event.type]?.(state, event);
  if (state.status === "waiting" || state.status === "ready") {
    state.status = state.seats.some(isFree) ? "waiting" : "ready";
  }
  if (state.game) awaitNext(state);
  return state;
}

const isFree = (seat) => seat.occupant === "free";

/** Returns the four seats in play order, `first` first. */
export function roundTheTable(first) {
  return SEATS.map((step) => (first + step) % SEATS.length);
}

const EVENTS = {
  room_created(state, { seat, name, settings }) {
    state.status = "waiting";
    state.settings = settings;
    state.host = seat;
    state.seats[seat] = person(name);
  },
  player_joined(state, { seat, name }) {
    state.seats[seat] = person(name);
  },
  player_left(state, { seat }) {
    state.seats[seat] = { occupant: "free" };
    if (state.host === seat) state.host = null;
  },
  host_changed(state, { seat }) {
    state.host = seat;
  },
  bot_added(state, { seat, name, style }) {
    state.seats[seat] = { occupant: "bot", name, style };
  },
  bot_removed(state, { seat }) {
    state.seats[seat] = { occupant: "free" };
  },
  player_went_silent(state, { seat }) {
    if (state.seats[seat].occupant === "person") state.seats[seat].silent = true;
  },
  player_came_back(state, { seat }) {
    if (state.seats[seat].occupant === "person") state.seats[seat].silent = false;
  },
  game_started(state) {
    state.status = "in_game";
  },
  dealt(state, { round, multiplier, starter, hand }) {
    const { scores = by(0), zeros = by(0) } = state.game ?? {};
    state.game = {
      ...{ phase: "declaration", awaited: starter, round, multiplier, starter },
      ...{ hand, hand_sizes: by(HAND), declared: by(null), may_declare: [], captured: by(0) },
      ...{ scores, zeros, leader: starter, table: [], last_table: [], gone: [] },
    };
  },
  redeal_asked({ game }, { seat }) {
    game.phase = "preparation";
    game.awaited = seat;
  },
  redeal_declined({ game }) {
    // Another redeal_asked follows if another weak hand is left to ask.
    game.phase = "declaration";
  },
  declared({ game }, { seat, piles }) {
    game.declared[seat] = piles;
    if (!game.declared.includes(null)) game.phase = "turn";
  },
  played(state, { seat, pieces, play, can_win }) {
    const { game } = state;
    if (seat === state.viewer) game.hand = game.hand.filter((id) => !pieces.includes(id));
    game.hand_sizes[seat] -= pieces.length;
    game.gone = [...game.gone, ...pieces].sort((a, b) => a - b);
    game.table.push({ seat, pieces, play, can_win });
  },
  turn_won({ game }, { winner, piles }) {
    game.captured[winner] += piles;
    game.leader = winner;
    game.last_table = game.table;
    game.table = [];
    if (game.hand_sizes.every((size) => size === 0)) game.phase = "scoring";
  },
  round_scored({ game }, { declared, scores }) {
    game.scores = scores;
    game.zeros = game.zeros.map((zeros, seat) =>
      declared[seat] === 0 ? Math.min(zeros + 1, 2) : 0,
    );
  },
  game_ended(state, { rounds, scores, winners, limit }) {
    const names = state.seats.map(({ name = null }) => name);
    state.status = "completed";
    state.result = { rounds, names, scores, winners, ...(limit && { limit }) };
  },
  room_abandoned(state) {
    state.status = "abandoned";
  },
  chat(state, { seat, text }) {
    const { name } = state.seats[seat];
    if (name === undefined) return;
    state.chat = [...state.chat, { offset: state.offset, seat, name, text }].slice(-CHAT);
  },
};

/** Works out who is to act, and what the viewer may declare. */
function awaitNext(state) {
  const { game } = state;
  game.awaited = state.status === "in_game" ? awaited(game) : null;
  const declares = game.phase === "declaration" && game.awaited === state.viewer;
  const mayDeclare = declares && state.viewer !== null;
  game.may_declare = mayDeclare ? allowedDeclarations(game.zeros[state.viewer], game.declared) : [];
}

function awaited(game) {
  switch (game.phase) {
    case "preparation":
      return game.awaited;
    case "declaration":
      return roundTheTable(game.starter).find((seat) => game.declared[seat] === null) ?? null;
    case "turn":
      return roundTheTable(game.leader)[game.table.length] ?? null;
    default:
      return null;
  }
}

const by = (value) => SEATS.map(() => value);
const person = (name) => ({ occupant: "person", name, silent: false });
