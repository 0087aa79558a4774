// The live stream of events, as a list that does not grow without end.

import { Unauthorized, listen } from "./admin.js";
import { el } from "/dom.js";
import { pieceName, playName } from "/rules.js";

const LINES = 200;
const PAUSE_MS = 2_000;

/** Returns the time of day of a moment in milliseconds since 1970. */
export function clock(at_ms) {
  const at = new Date(at_ms);
  return el("time", { datetime: at.toISOString() }, at.toLocaleTimeString([], { hour12: false }));
}

/** Returns what an event says, without names: those belong to the room. */
export function words({ type, ...fields }) {
  const { pieces, play, can_win, text, hand, settings, ...rest } = fields;
  const values = Object.entries(rest).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  if (pieces)
    values.push(`${play ? playName(play) : "no play"}: ${pieces.map(pieceName).join(", ")}`);
  if (can_win === false) values.push("cannot win");
  if (text) values.push(`“${text}”`);
  return `${type.replaceAll("_", " ")} ${values.join(" · ").replaceAll('"', "")}`;
}

/** Returns a line of the list. */
export function line({ room, offset, at_ms, event }, isRoomKnown = false) {
  const place = isRoomKnown ? `#${offset}` : `${room} #${offset}`;
  return el("li", {}, clock(at_ms), " ", el("span", { class: "code" }, place), ` ${words(event)}`);
}

/** Hears the stream for ever; `onEvent` gets each event, `onState` what to say about the stream. */
export async function follow({ onEvent, onNotice, onGap, onState }) {
  const hearers = { room: onEvent, notice: onNotice, gap: onGap };
  for (;;) {
    try {
      const hear = (name, data) => hearers[name]?.(data);
      await listen("/api/events", hear, () => onState("listening"));
      onState("the stream ended; listening again");
    } catch (error) {
      if (error instanceof Unauthorized) return;
      onState("no stream; trying again");
    }
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
}

/** Puts a line on top of a list and takes the oldest away. */
export function push(list, item) {
  list.prepend(item);
  while (LINES < list.childElementCount) list.lastElementChild.remove();
}
