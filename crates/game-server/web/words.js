// What happened, in sentences: for the feed, and through it for screen readers.

import { pieceName, playName } from "./rules.js";

/** Returns the name of who sits on a seat, or "You". */
export function who(state, seat) {
  if (seat === state.viewer) return "You";
  return state.seats[seat].name ?? `Seat ${seat + 1}`;
}

/** Returns "1 pile", "2 piles". */
export function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** Returns a list in words: "a, b and c". */
export function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Returns a number with a proper minus: "3", "−2". */
export function number(n) {
  return n < 0 ? `−${-n}` : String(n);
}

/** Returns a number with its sign: "+3", "−2". */
function signed(n) {
  return n < 0 ? number(n) : `+${n}`;
}

/** Returns one sentence about an event, or null if there is nothing to say. */
export function sentence(before, after, event) {
  const subject = (seat) => who(after.seats[seat].name === undefined ? before : after, seat);
  const does = (seat, verb, rest = "") => {
    const isYou = seat === after.viewer;
    return `${subject(seat)} ${isYou ? verb : third(verb)}${rest && ` ${rest}`}.`;
  };
  return SENTENCES[event.type]?.(event, { does, subject, after }) ?? null;
}

function third(verb) {
  const [first, ...rest] = verb.split(" ");
  const irregular = { are: "is", have: "has" };
  return [irregular[first] ?? `${first}s`, ...rest].join(" ");
}

const SENTENCES = {
  player_joined: ({ seat }, { does }) => does(seat, "sit down"),
  player_left: ({ seat }, { does }) => does(seat, "leave", "the table"),
  host_changed: ({ seat }, { does }) => does(seat, "are", "the host now"),
  bot_added: ({ seat, style }, { does }) => does(seat, "sit down", `(a ${style} bot)`),
  bot_removed: ({ seat }, { does }) => does(seat, "leave", "the table"),
  player_went_silent: ({ seat }, { does }) => does(seat, "are", "silent: a bot plays instead"),
  player_came_back: ({ seat }, { does }) => does(seat, "are", "back"),
  game_started: () => "The game begins.",
  dealt: ({ round, multiplier, starter }, { subject }) => {
    const times = 1 < multiplier ? ` It counts ${multiplier} times.` : "";
    return `Round ${round} is dealt. Starter: ${subject(starter)}.${times}`;
  },
  redeal_asked: ({ seat }, { does }) => does(seat, "have", "a weak hand and may ask for a redeal"),
  redeal_accepted: ({ seat }, { does }) => does(seat, "take", "the redeal"),
  redeal_declined: ({ seat }, { does }) => does(seat, "keep", "the weak hand"),
  declared: ({ seat, piles }, { does }) => does(seat, "declare", String(piles)),
  played: ({ seat, pieces, play, can_win }, { does }) => {
    const what = list(pieces.map(pieceName));
    if (can_win) return does(seat, "play", `${playName(play)}: ${what}`);
    return does(seat, "put down", `${what}; it cannot win`);
  },
  turn_won: ({ winner, piles }, { does }) =>
    does(winner, "win", `the turn and ${count(piles, "pile")}`),
  round_scored: ({ round, change, scores }, { subject }) => {
    const each = scores.map(
      (score, seat) => `${subject(seat)} ${signed(change[seat])}, now ${number(score)}`,
    );
    return `Round ${round} is over. ${each.join("; ")}.`;
  },
  game_ended: ({ winners, limit }, { subject }) => {
    const [first, ...others] = winners.map(subject);
    const over = limit ? "The game has reached its limit and is over." : "The game is over.";
    if (others.length > 0) return `${over} The win is shared: ${list([first, ...others])}.`;
    return `${over} ${first} ${first === "You" ? "have" : "has"} won.`;
  },
  room_abandoned: ({ reason }) =>
    reason === "limit" ? "The table has reached its limit and is closed." : "The table is closed.",
  chat: () => null,
  action_refused: () => null,
};
