// The table: four plates round it, each with who sits there and what was put down.

import { byId, draw, el } from "./dom.js";
import { roundTheTable } from "./fold.js";
import { laid } from "./pieces.js";
import { playName } from "./rules.js";
import { count, list, number, who } from "./words.js";

const PLACES = ["bottom", "left", "top", "right"];
const PHASES = {
  preparation: "Weak hands are asked",
  declaration: "Declarations",
  turn: "Turns",
  scoring: "Scores",
};
/** What the gestures say. */
export const GESTURES = {
  thumbs_up: "Good!",
  clap: "Bravo!",
  laugh: "Haha!",
  think: "Hmm …",
  surprise: "Oh!",
  cry: "Alas!",
  fire: "Fierce!",
  wave: "Hello!",
};

/** Draws all that everybody at the table can see. */
export function drawTable(room, actions) {
  const { state } = room;
  drawHead(room, actions);
  const order = roundTheTable(state.viewer ?? 0);
  order.forEach((seat, place) => drawPlate(room, seat, PLACES[place], actions));
  drawCentre(state);
  drawScores(state);
}

function drawHead({ code, state }, { leave, copy }) {
  const { game, viewer, status } = state;
  const model = [code, game?.round, game?.multiplier, game?.phase, viewer, status];
  draw(byId("room-head"), model, () => {
    const times = game && 1 < game.multiplier ? `, counts ${game.multiplier} times` : "";
    const round = game ? `Round ${game.round} of at most 20${times}` : "Before the game";
    const phase = game && status === "in_game" ? ` · ${PHASES[game.phase]}` : "";
    return [
      el(
        "div",
        {},
        el(
          "h1",
          { id: "room-title", tabindex: "-1", "data-rest": true },
          "Table ",
          el("span", { class: "code" }, code),
        ),
        el(
          "p",
          { class: "soft" },
          `${round}${phase}${viewer === null ? " · you are watching" : ""}`,
        ),
      ),
      el(
        "div",
        { class: "buttons" },
        el(
          "button",
          { type: "button", "data-key": "copy", on: { click: copy } },
          "Copy invitation link",
        ),
        el(
          "button",
          { type: "button", "data-key": "leave", on: { click: leave } },
          viewer === null ? "Stop watching" : "Leave the table",
        ),
      ),
    ];
  });
}

/** Returns what a seat has on the table, and whether it still counts. */
function onTable(game, seat) {
  if (!game) return null;
  const isOver = game.table.length === 0;
  const plays = isOver ? game.last_table : game.table;
  const play = plays.find((one) => one.seat === seat);
  if (!play) return null;
  return { ...play, isOver, hasWon: isOver && game.leader === seat };
}

function drawPlate({ state, presence, gestures }, seat, place, { addBot, removeBot }) {
  const { game, host, status, viewer } = state;
  const occupant = state.seats[seat];
  const plate = {
    ...{ seat, viewer, status, occupant, isHost: host === seat, canHost: host === viewer },
    connected: presence?.connected[seat] ?? true,
    gesture: gestures[seat] ?? null,
    awaited: game?.awaited === seat,
    declared: game?.declared[seat] ?? null,
    captured: game?.captured[seat],
    score: game?.scores[seat],
    size: game?.hand_sizes[seat],
    starter: game?.starter === seat,
    play: onTable(game, seat),
    isGathering: status === "waiting" || status === "ready",
    isFirstFree: state.seats.findIndex((one) => one.occupant === "free") === seat,
  };
  const slot = byId(`plate-${place}`);
  slot.classList.toggle("awaited", plate.awaited);
  draw(slot, plate, () => [
    plateName(state, plate),
    el("p", { class: "facts" }, facts(plate)),
    game ? counts(plate) : null,
    plate.gesture
      ? el(
          "p",
          { class: "gesture", "aria-hidden": "true" },
          GESTURES[plate.gesture] ?? plate.gesture,
        )
      : null,
    plate.isGathering ? seatButtons(plate, { addBot, removeBot }) : plateLaid(state, plate),
  ]);
}

function plateName(state, { seat, occupant, viewer }) {
  const name = occupant.name ?? "Free seat";
  const you = seat === viewer ? el("span", { class: "you" }, " (you)") : null;
  return el("h2", { class: "name", title: name }, el("span", { class: "who" }, name), you);
}

function facts({ occupant, isHost, connected, awaited, starter }) {
  const silent = occupant.silent ? "a bot plays" : null;
  const away = occupant.occupant === "person" && !connected ? "away" : null;
  const kind = occupant.occupant === "bot" ? `${occupant.style} bot` : null;
  const words = [
    awaited ? "to act" : null,
    kind,
    isHost ? "host" : null,
    starter ? "starter" : null,
    silent,
    away,
  ];
  return words
    .filter(Boolean)
    .map((word) => el("span", { class: `fact ${word.replaceAll(" ", "-")}` }, word));
}

function counts({ declared, captured, score, size }) {
  const said = declared === null ? "?" : declared;
  const label = `${declared === null ? "nothing declared yet" : `declared ${declared}`}, captured ${captured}, score ${score}, ${count(size, "piece")} left`;
  return el(
    "p",
    { class: "counts" },
    el("span", { class: "hidden" }, label),
    el("span", { "aria-hidden": "true", class: "piles" }, `took ${captured} of ${said}`),
    el("span", { "aria-hidden": "true" }, `${number(score)} pts`),
    el("span", { "aria-hidden": "true", class: "size" }, `${size} left`),
  );
}

function plateLaid(state, { seat, play }) {
  if (!play) return el("div", { class: "laid-slot" });
  const kind = play.play && play.can_win ? playName(play.play) : "cannot win";
  const note = play.hasWon ? `${kind} – wins` : kind;
  const marks = [
    "laid-slot",
    play.isOver ? "past" : "",
    play.hasWon ? "won" : "",
    play.can_win ? "" : "lost",
  ];
  return el(
    "div",
    { class: marks.join(" ") },
    laid(play.pieces, `${who(state, seat)}, ${play.isOver ? "last turn" : "this turn"}: ${note}`),
    el("p", { class: "kind", "aria-hidden": "true" }, note),
  );
}

function seatButtons({ seat, occupant, viewer, canHost, isFirstFree }, { addBot, removeBot }) {
  if (!canHost || viewer === null) return null;
  const button = (text, key, click) =>
    el("button", { type: "button", "data-key": key, on: { click } }, text);
  if (occupant.occupant === "bot") {
    return button(`Remove ${occupant.name}`, `remove-${seat}`, () => removeBot(seat));
  }
  return isFirstFree ? button("Add a bot", "add-bot", addBot) : null;
}

function drawCentre(state) {
  const { game, status, result } = state;
  const led = game?.table[0];
  const model = [status, game?.phase, led, game?.leader, game?.last_table.length, result];
  draw(byId("centre"), model, () => {
    if (result) return winners(state);
    if (!game)
      return el("p", {}, status === "ready" ? "The table is full." : "Waiting for players");
    if (led)
      return el(
        "p",
        {},
        el("strong", {}, playName(led.play)),
        ` leads: ${count(led.pieces.length, "piece")} each`,
      );
    if (game.phase !== "turn" && game.phase !== "scoring") return el("p", {}, PHASES[game.phase]);
    if (game.last_table.length === 0) return el("p", {}, "The first turn");
    const piles = game.last_table[0].pieces.length;
    return el("p", {}, el("strong", {}, who(state, game.leader)), ` took ${count(piles, "pile")}`);
  });
}

function winners(state) {
  const { winners: seats, scores, rounds } = state.result;
  const names = seats.map((seat) => state.result.names[seat] ?? `Seat ${seat + 1}`);
  const isMine = seats.includes(state.viewer);
  return [
    el(
      "p",
      { class: "winner" },
      isMine ? "You have won!" : `${list(names)} ${seats.length === 1 ? "has" : "have"} won`,
    ),
    el("p", {}, `${scores[seats[0]]} points after ${count(rounds, "round")}`),
  ];
}

function drawScores(state) {
  const { game, seats, viewer } = state;
  const names = seats.map(({ name }) => name ?? "Free seat");
  const model = [names, viewer, game?.declared, game?.captured, game?.scores];
  draw(byId("scores"), model, () => {
    const head = ["Player", "Declared", "Taken", "Score"].map((text) =>
      el("th", { scope: "col" }, text),
    );
    const rows = names.map((name, seat) => {
      const cells = [
        game?.declared[seat] ?? "–",
        game?.captured[seat] ?? "–",
        game ? number(game.scores[seat]) : "–",
      ];
      const header = el("th", { scope: "row" }, name, seat === viewer ? " (you)" : "");
      return el(
        "tr",
        {},
        header,
        cells.map((cell) => el("td", {}, String(cell))),
      );
    });
    const table = { "aria-labelledby": "scores-title" };
    return el("table", table, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  });
}
