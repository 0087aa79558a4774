// The lobby: a name, a table of one's own, or one of the list.

import { byId, draw, el } from "./dom.js";
import { count } from "./words.js";

const NAME_SAVED_AS = "liap.name";
const CODE = /^[0-9A-HJKMNP-TV-Z]{6}$/;
const STATUS = {
  waiting: "waiting for players",
  ready: "about to start",
  in_game: "playing",
  completed: "finished",
  abandoned: "closed",
};

/** Connects the lobby's forms; `enter` has create(name, isQuick), join(code, name), watch(code). */
export function setUpLobby(enter) {
  byId("name").value = savedName();
  if (!location.hash.startsWith("#replay-")) {
    byId("code").value = location.hash.slice(1).toUpperCase();
  }
  const withName = (then) => {
    const name = checkedName();
    if (name !== null) then(name);
  };
  const withCode = (then) => {
    const code = checkedCode();
    if (code !== null) then(code);
  };
  onSubmit("enter", () => withName((name) => enter.create(name, true)));
  byId("create").addEventListener("click", () => withName((name) => enter.create(name, false)));
  onSubmit("join", () => withCode((code) => withName((name) => enter.join(code, name))));
  byId("watch-code").addEventListener("click", () => withCode((code) => enter.watch(code)));
  byId("rooms").addEventListener("click", ({ target }) => {
    const { join, watch } = target.dataset;
    if (join) withName((name) => enter.join(join, name));
    if (watch) enter.watch(watch);
  });
}

/** Listens to a form that is never sent anywhere. */
export function onSubmit(id, listener) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    listener();
  });
}

function savedName() {
  const guest = `Guest ${100 + Math.floor(Math.random() * 900)}`;
  try {
    return localStorage.getItem(NAME_SAVED_AS) ?? guest;
  } catch {
    return guest;
  }
}

function checkedName() {
  const name = byId("name").value.trim();
  const problem = name === "" ? "Enter a name first." : "";
  if (!complain("name", problem)) return null;
  try {
    localStorage.setItem(NAME_SAVED_AS, name);
  } catch {
    // It will have to be typed again.
  }
  return name;
}

function checkedCode() {
  const code = byId("code").value.trim().toUpperCase();
  const isCode = CODE.test(code);
  return complain("code", isCode ? "" : "A table code has six letters and digits.") ? code : null;
}

/** Says what is wrong with a field, beside it; returns whether nothing is. */
export function complain(field, problem) {
  const input = byId(field);
  byId(`${field}-problem`).textContent = problem;
  if (problem === "") {
    input.removeAttribute("aria-invalid");
    return true;
  }
  input.setAttribute("aria-invalid", "true");
  input.focus();
  return false;
}

/** Draws the list of tables. */
export function drawRooms(rooms) {
  draw(byId("rooms"), rooms, () => {
    if (rooms === null) return el("p", {}, "Looking for tables …");
    if (rooms.rooms.length === 0) return el("p", {}, "Nobody is playing yet. Be the first.");
    const more = rooms.total - rooms.rooms.length;
    const rest = 0 < more ? el("p", {}, `and ${count(more, "more table")}`) : null;
    return [el("ul", { class: "room-list" }, rooms.rooms.map(roomLine)), rest];
  });
}

function roomLine({ room, status, host, people, bots, round }) {
  const players = [count(people, "person").replace("persons", "people"), count(bots, "bot")];
  const playing = status === "in_game" && 0 < round ? `round ${round}` : STATUS[status];
  const text = `${players.join(", ")} · ${playing}`;
  const of = host === null ? `table ${room}` : `${host}’s table ${room}`;
  const button = (verb, data) =>
    el(
      "button",
      {
        type: "button",
        [`data-${data}`]: room,
        "data-key": `${data}-${room}`,
        "aria-label": `${verb} ${of}`,
      },
      verb,
    );
  return el(
    "li",
    {},
    el(
      "div",
      { class: "room-line" },
      el("strong", {}, host ?? "Nobody"),
      el("span", { class: "code" }, room),
      el("span", { class: "soft" }, text),
    ),
    el(
      "div",
      { class: "buttons" },
      status === "waiting" ? button("Join", "join") : null,
      button("Watch", "watch"),
    ),
  );
}
