// One room in full, as a spectator sees it.

import { diagram } from "./diagram.js";
import { line } from "./live.js";
import { arrive } from "./travel.js";
import { byId, draw, el } from "/dom.js";
import { token } from "/pieces.js";
import { piece, pieceName } from "/rules.js";
import { number } from "/words.js";

const LEFT = new Set(["Who", "On the table"]);

/** Draws the room: state machine and seats, unless the reader looks at another moment, and last events. */
export function drawRoom({ room, epoch, state, diagram: machine, recent }) {
  byId("room").hidden = false;
  byId("room-title").textContent = `Room ${room} · ${state.offset} events · epoch ${epoch}`;
  if (arrive(room, state.offset)) drawState({ state, diagram: machine });
  draw(byId("recent"), recent, () => recent.toReversed().map((event) => line(event, true)));
}

/** Draws the state of the room at one moment. */
export function drawState({ state, diagram: machine }) {
  draw(byId("diagram"), machine, () => diagram(machine));
  draw(byId("seats"), state, () => seats(state));
}

function seats({ seats: chairs, game, host, status, settings }) {
  const head = ["Seat", "Who", "Holds", "Declared", "Captured", "Score", "On the table"];
  const rows = chairs.map((chair, seat) => {
    const marks = [
      chair.silent ? "silent" : null,
      host === seat ? "host" : null,
      game?.awaited === seat ? "to act" : null,
    ];
    const who = `${chair.name ?? "free"}${chair.style ? ` (${chair.style} bot)` : ""}`;
    const notes = marks.filter(Boolean);
    const play = game?.table.find((one) => one.seat === seat);
    const cells = [
      game?.hand_sizes[seat],
      game?.declared[seat],
      game?.captured[seat],
      game && number(game.scores[seat]),
    ];
    return el(
      "tr",
      { class: game?.awaited === seat ? "chosen" : "" },
      el("th", { scope: "row" }, String(seat)),
      el("td", { class: "left" }, notes.length ? `${who} – ${notes.join(", ")}` : who),
      cells.map((cell) => el("td", {}, String(cell ?? "–"))),
      el("td", { class: "left" }, (play?.pieces ?? []).map(shown)),
    );
  });
  const header = el(
    "tr",
    {},
    head.map((text) => el("th", { scope: "col", class: LEFT.has(text) ? "left" : "" }, text)),
  );
  const times = `thinking ${settings.preparation_ms / 1000}, ${settings.declaration_ms / 1000}, ${settings.turn_ms / 1000} s; bots ${settings.bot_min_ms} to ${settings.bot_max_ms} ms`;
  const round = game ? ` · round ${game.round}, times ${game.multiplier}` : "";
  return [
    el("p", {}, `${status.replaceAll("_", " ")}${round} · ${times}`),
    el(
      "div",
      { class: "scroll-x" },
      el("table", { "aria-label": "Seats" }, el("thead", {}, header), el("tbody", {}, rows)),
    ),
  ];
}

function shown(id) {
  return el(
    "span",
    { role: "img", "aria-label": `${pieceName(id)}, ${piece(id).points}` },
    token(id),
  );
}
