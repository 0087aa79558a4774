// What the server stands on and what it holds off: queues, limits, breakers, the archive.

import { short, time } from "./charts.js";
import { byId, draw, el } from "/dom.js";

const BREAKER = { closed: "good", half_open: "warn", open: "bad" };

/** Draws these parts of `GET /api/observed`. */
export function showInside({ queues, limits, breakers, calls, archive }) {
  draw(byId("queues"), queues.map(coarse), () => depths(queues));
  draw(byId("limits"), limits, () => figures("limits-title", limits));
  draw(byId("breakers"), [breakers, calls], () => [
    circuits(breakers),
    figures("breakers-title", calls),
  ]);
  draw(byId("archive"), archive, () => figures("archive-title", archive));
}

/** What is drawn anew only when it changes by what can be seen. */
function coarse({ holds, ...queue }) {
  return { ...queue, holds: holds && { ...holds, oldest_ms: Math.floor(holds.oldest_ms / 1000) } };
}

function depths(queues) {
  const head = ["Queue", "Ready", "Later", "In hand", "Dead", "Oldest", "Room for"];
  const header = head.map((text) => el("th", { scope: "col" }, text));
  const rows = queues.map(({ name, holds, problem, at_most: most }) =>
    el(
      "tr",
      { "data-queue": name },
      el("th", { scope: "row" }, name),
      holds ? held(holds) : el("td", { colspan: 5, class: "left" }, dot("bad", problem)),
      el("td", {}, short(most)),
    ),
  );
  const table = { "aria-labelledby": "queues-title" };
  return el("table", table, el("thead", {}, el("tr", {}, header)), el("tbody", {}, rows));
}

function held({ ready, delayed, in_hand: hand, dead, oldest_ms: oldest }) {
  const letters = dead === 0 ? "0" : dot("bad", short(dead));
  const cells = [short(ready), short(delayed), short(hand), letters, ready ? time(oldest) : "–"];
  return cells.map((cell) => el("td", {}, cell));
}

function circuits(breakers) {
  const rows = breakers.map(({ store, state }) =>
    el(
      "tr",
      { "data-breaker": store, "data-state": state },
      el("th", { scope: "row" }, store),
      el("td", {}, dot(BREAKER[state], state.replaceAll("_", " "))),
    ),
  );
  return el("table", { "aria-label": "Breakers, now" }, el("tbody", {}, rows));
}

function figures(title, all) {
  const rows = all.map(({ name, value, at_most: most }) =>
    el(
      "tr",
      { "data-figure": name },
      el("th", { scope: "row" }, name),
      el("td", {}, most === null ? short(value) : `${short(value)} of ${short(most)}`),
    ),
  );
  return el("table", { "aria-labelledby": title }, el("tbody", {}, rows));
}

const dot = (kind, text) => el("span", { class: `dot ${kind}` }, text);
