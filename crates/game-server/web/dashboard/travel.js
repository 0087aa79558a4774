// Time travel: the room as it was right after any of its events.

import { ask } from "./admin.js";
import { words } from "./live.js";
import { byId } from "/dom.js";

/** The room, its newest event, and the event that is shown; null for now. */
const place = { room: null, last: 1, at: null };
let asked = 0;

/** Makes the controls work: `show` draws a moment, `back` what is now. */
export function travel({ show, back }) {
  const go = (offset) => visit(Math.min(Math.max(1, offset), place.last), show);
  const on = (id, listener) => byId(id).addEventListener("click", listener);
  byId("offset").addEventListener("input", ({ target }) => go(Number(target.value)));
  on("first", () => go(1));
  on("earlier", () => go((place.at ?? place.last) - 1));
  on("later", () => go((place.at ?? place.last) + 1));
  on("now", () => {
    stay();
    back();
  });
}

/** Notes how far a room has come; returns whether it is to be shown as it is now. */
export function arrive(room, last) {
  if (room !== place.room) stay();
  Object.assign(place, { room, last });
  mark();
  return place.at === null;
}

function stay() {
  place.at = null;
  // What is still on its way is not shown any more.
  asked += 1;
}

function mark() {
  const { last, at } = place;
  const slider = byId("offset");
  slider.max = last;
  slider.value = at ?? last;
  byId("now").setAttribute("aria-pressed", String(at === null));
  if (at === null) byId("moment").textContent = `Now, after event ${last}`;
}

async function visit(offset, show) {
  place.at = offset;
  mark();
  asked += 1;
  const mine = asked;
  try {
    const moment = await ask(`/api/rooms/${place.room}/at/${offset}`);
    if (mine !== asked) return;
    show(moment);
    byId("moment").textContent = told(moment);
  } catch {
    if (mine === asked) byId("moment").textContent = `Event ${offset} cannot be shown`;
  }
}

function told({ last, event, snapshot, replayed }) {
  const from = snapshot === null ? "from the first" : `after the snapshot of ${snapshot}`;
  const events = replayed === 1 ? "1 event" : `${replayed} events`;
  return `Event ${event.offset} of ${last}: ${words(event.event)} (${events} replayed ${from})`;
}
