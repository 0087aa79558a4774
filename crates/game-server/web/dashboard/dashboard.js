// The dashboard: asks the admin listener every other second and draws what it says.

import { Unauthorized, ask, setToken } from "./admin.js";
import { histogram, rate, short } from "./charts.js";
import { showInside } from "./inside.js";
import { follow, line, push } from "./live.js";
import { showObserved } from "./observed.js";
import { drawRoom, drawState } from "./room.js";
import { travel } from "./travel.js";
import { byId, draw, el } from "/dom.js";

const EVERY_MS = 2_000;
let chosen = null;
let isPaused = false;
let timer = null;

async function refresh() {
  clearTimeout(timer);
  try {
    const paths = ["/api/overview", "/api/rooms", "/api/leaderboard", "/api/observed"];
    const answers = await Promise.all(paths.map((path) => ask(path)));
    const [overview, rooms, leaderboard, observed] = answers;
    showOverview(overview);
    showObserved(observed);
    showInside(observed);
    showRooms(rooms);
    showBest(leaderboard);
    if (chosen !== null) await showRoom(chosen);
  } catch (error) {
    showFailure(error);
    if (error instanceof Unauthorized) return;
  }
  timer = setTimeout(() => (document.hidden ? null : refresh()), EVERY_MS);
}

function showFailure(error) {
  badge("bad", error instanceof Unauthorized ? "token needed" : "no answer");
  byId("token-form").hidden = !(error instanceof Unauthorized);
  if (error instanceof Unauthorized) byId("token").focus();
}

function badge(kind, text) {
  byId("health").className = `badge ${kind}`;
  if (byId("health").textContent !== text) byId("health").textContent = text;
}

function showOverview({
  server,
  uptime_ms,
  ready,
  rooms,
  players,
  connections,
  rates,
  histograms,
}) {
  badge(ready ? "good" : "bad", ready ? "ready" : "not ready");
  byId("server").textContent = `${server} · up ${duration(uptime_ms)}`;
  const totals = [
    [
      "Rooms playing",
      rooms.in_game,
      `${rooms.waiting + rooms.ready} gathering, ${rooms.completed} finished`,
    ],
    ["People", players.people, `${players.connected} connected`],
    ["Bots", players.bots, ""],
    ["Spectators", players.spectators, ""],
    [
      "Connections",
      connections.open,
      `${short(connections.accepted)} accepted, ${short(connections.refused)} refused`,
    ],
    ["Resumed", connections.resumed, "since the start"],
  ];
  draw(byId("totals"), totals, () => totals.map(total));
  draw(byId("rates"), rates, () => rates.map(rate));
  draw(byId("latencies"), histograms, () => histograms.map(histogram));
}

function total([name, value, note]) {
  const words = note ? el("dd", { class: "soft" }, note) : null;
  return el("dl", { class: "total" }, el("dt", {}, name), el("dd", {}, short(value)), words);
}

function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function showRooms({ rooms, total: count }) {
  draw(
    byId("rooms"),
    [rooms.map(({ idle_ms, ...rest }) => ({ ...rest, idle: duration(idle_ms) })), chosen],
    () => {
      if (count === 0) return el("p", {}, "There is no room.");
      const head = ["Room", "State", "Round", "People", "Bots", "Watching", "Events", "Idle"];
      const header = el(
        "tr",
        {},
        head.map((text) => el("th", { scope: "col" }, text)),
      );
      const named = { "aria-labelledby": "rooms-title" };
      const more = rooms.length < count ? el("p", {}, `and ${count - rooms.length} more`) : null;
      return [
        el("table", named, el("thead", {}, header), el("tbody", {}, rooms.map(roomRow))),
        more,
      ];
    },
  );
}

function showBest({ rows, total: count }) {
  draw(byId("best"), [rows, count], () => {
    if (count === 0) return el("p", {}, "Nobody has finished a game.");
    const head = ["Player", "Won", "Played", "Score", "Best game", "Best streak"];
    const header = head.map((text) => el("th", { scope: "col" }, text));
    const body = rows.map((row) => {
      const cells = [row.won, row.played, row.total_score, row.highest_score, row.best_streak];
      return el(
        "tr",
        {},
        el("th", { scope: "row" }, row.name),
        cells.map((cell) => el("td", {}, String(cell))),
      );
    });
    const table = { "aria-labelledby": "best-title" };
    const more = rows.length < count ? el("p", {}, `and ${count - rows.length} more`) : null;
    return [el("table", table, el("thead", {}, el("tr", {}, header)), el("tbody", {}, body)), more];
  });
}

function roomRow(row) {
  const { room, status, phase, round, people, connected, bots, spectators, offset, idle_ms } = row;
  const choose = { click: () => chooseRoom(room) };
  const button = el(
    "button",
    { type: "button", "data-key": room, "aria-pressed": String(room === chosen), on: choose },
    room,
  );
  const state = (phase && status === "in_game" ? phase : status).replaceAll("_", " ");
  const cells = [
    state,
    round || "–",
    `${connected}/${people}`,
    bots,
    spectators,
    offset,
    duration(idle_ms),
  ];
  const attributes = { class: room === chosen ? "chosen" : "" };
  return el(
    "tr",
    attributes,
    el("th", { scope: "row" }, button),
    cells.map((cell) => el("td", {}, String(cell))),
  );
}

async function chooseRoom(room) {
  chosen = room;
  await refresh();
  byId("room-title").focus();
}

async function showRoom(room) {
  try {
    drawRoom(await ask(`/api/rooms/${room}`));
  } catch (error) {
    if (error instanceof Unauthorized) throw error;
    byId("room-title").textContent = `Room ${room} is gone`;
  }
}

function hear() {
  follow({
    onEvent(event) {
      const isWanted = !byId("only").checked || event.room === chosen;
      if (!isPaused && isWanted) push(byId("live"), line(event));
    },
    onNotice({ kind, data }) {
      const words = [kind, data?.rule, data?.says].filter(Boolean).join(": ");
      push(byId("live"), el("li", { class: "gap" }, words));
    },
    onGap({ missed }) {
      push(
        byId("live"),
        el("li", { class: "gap" }, `${missed} events were not shown: too many at once`),
      );
    },
    onState: (text) => (byId("live-state").textContent = text),
  });
}

byId("pause").addEventListener("click", ({ currentTarget }) => {
  isPaused = !isPaused;
  currentTarget.setAttribute("aria-pressed", String(isPaused));
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  byId("token-form").hidden = true;
  refresh();
  hear();
});
travel({ show: drawState, back: refresh });
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
hear();
