// A finished game, move by move: the table as everybody saw it, and the hands that nobody saw.

import { byId, draw, el } from "./dom.js";
import { fold } from "./fold.js";
import { laid } from "./pieces.js";
import { sentence, who } from "./words.js";

const PACE_MS = 900;

/** Returns a replay that stands at its beginning, of a game as `/api/games/` tells it. */
export function replayOf({ id, room, start, steps }) {
  let state = start;
  let hands = start.seats.map(() => []);
  const frames = [{ state, hands, text: "The table is opened." }];
  for (const { offset, event, hands: dealt } of steps) {
    const before = state;
    state = fold(before, offset, event);
    hands = dealt ?? handsAfter(hands, event);
    const text = sentence(before, state, event);
    if (event.type !== "hidden") frames.push({ state, hands, text: text ?? "" });
  }
  return { id, code: room, frames, at: 0, timer: null };
}

function handsAfter(hands, { type, seat, pieces }) {
  if (type !== "played") return hands;
  return hands.map((hand, of) => (of === seat ? hand.filter((id) => !pieces.includes(id)) : hand));
}

/** Returns the room as the table is drawn from it. */
export function roomOf({ code, frames, at }) {
  return { code, state: frames[at].state, presence: null, gestures: {} };
}

/** Goes to a step; beyond either end is the end. */
export function goTo(replay, at) {
  replay.at = Math.max(0, Math.min(at, replay.frames.length - 1));
  if (replay.at === replay.frames.length - 1) pause(replay);
}

/** Goes on by itself until the end, or stops doing so. */
export function togglePlay(replay, redraw) {
  if (replay.timer !== null) {
    pause(replay);
    return;
  }
  replay.timer = setInterval(() => {
    goTo(replay, replay.at + 1);
    redraw();
  }, PACE_MS);
}

/** Stops going on by itself. */
export function pause(replay) {
  clearInterval(replay.timer);
  replay.timer = null;
}

/** Draws what stands in the place of the player's hand: what happened, all hands, the buttons. */
export function drawReplay(replay, { step, play }) {
  const { frames, at, id, timer } = replay;
  const { state, hands, text } = frames[at];
  draw(byId("prompt-slot"), ["replay", id, at], () =>
    el("h2", { id: "prompt", class: "prompt", tabindex: "-1", "aria-live": "polite" }, text),
  );
  draw(byId("hand"), ["replay", hands], () =>
    el(
      "div",
      { class: "all-hands" },
      hands.map((hand, seat) => handOf(state, seat, hand)),
    ),
  );
  draw(byId("actions"), ["replay", id, at, timer !== null], () => {
    const last = frames.length - 1;
    const button = (label, key, click, disabled) =>
      el("button", { type: "button", "data-key": key, disabled, on: { click } }, label);
    return [
      button("First", "replay-first", () => step(0), at === 0),
      button("Back", "replay-back", () => step(at - 1), at === 0),
      button(timer === null ? "Play" : "Pause", "replay-play", play, at === last),
      button("Forward", "replay-forward", () => step(at + 1), at === last),
      button("Last", "replay-last", () => step(last), at === last),
      el("p", { class: "soft" }, `Step ${at} of ${last}`),
    ];
  });
}

function handOf(state, seat, hand) {
  const name = who(state, seat);
  return el("div", {}, el("p", { class: "soft" }, name), laid(hand, `Hand of ${name}`));
}
