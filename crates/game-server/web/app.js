// The page: it holds what is known, hears the server through the client, and draws.

import { setUpBest } from "./best.js";
import { Client } from "./client.js";
import { byId } from "./dom.js";
import { fold } from "./fold.js";
import { drawHand, isMyTurn } from "./hand.js";
import { complain, drawRooms, setUpLobby } from "./lobby.js";
import { pieceTable } from "./pieces.js";
import { drawReplay, goTo as goToStep, pause, replayOf, roomOf, togglePlay } from "./replay.js";
import { GESTURES, drawTable } from "./table.js";
import { addLine, clearLines, setUpTalk } from "./talk.js";
import { count, sentence, who } from "./words.js";

const NOTICE_MS = 8_000;
const GESTURE_MS = 3_000;

/** What is known: the lobby's list, the room with its state, and the replay, if there is one. */
const known = { rooms: null, room: null, replay: null, selected: new Set() };
/** What shall happen on entering the next room: start at once, against bots. */
const wish = { isQuick: false, name: null };
/** Whether the player has asked to leave, so that the end of the table is no news. */
let isLeaving = false;
let noticeTimer = null;

const client = new Client({
  url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`,
  storage: sessionStorage,
  onMessage: (message) => {
    HEAR[message.type]?.(message);
    redraw();
  },
  onStatus: showStatus,
});

/** What each message changes. */
const HEAR = {
  welcome() {
    if (client.remembers) return;
    if (known.room) goTo(null);
    client.request({ type: "list_rooms" });
  },
  rooms(rooms) {
    known.rooms = rooms;
  },
  joined({ room, epoch, state, why }) {
    const isNew = known.room?.code !== room;
    goTo({ code: room, epoch, state, presence: null, gestures: {} });
    clearLines();
    for (const { name, text } of state.chat) addLine(text, "said", name);
    if (why !== "entered")
      tell("Reconnected; too much had happened, so here is how things stand now.");
    else if (isNew) addLine(`You are at table ${room}.`);
    if (wish.isQuick && state.viewer === state.host) client.act({ type: "start" });
    wish.isQuick = false;
    comeBack();
  },
  resumed({ missed }) {
    tell(`Reconnected, ${count(missed, "event")} caught up.`);
    known.room.catchingUp = missed;
    if (missed === 0) comeBack();
  },
  not_resumed() {
    goTo(null);
    tell("Your table is gone.");
    client.request({ type: "list_rooms" });
  },
  event({ offset, event }) {
    const { room } = known;
    const before = room.state;
    room.state = fold(before, offset, event);
    const hand = room.state.game?.hand ?? [];
    for (const id of known.selected) if (!hand.includes(id)) known.selected.delete(id);
    narrate(before, room.state, event);
    if (0 < room.catchingUp) {
      room.catchingUp -= 1;
      if (room.catchingUp === 0) comeBack();
    }
  },
  refused({ request, code, message, retry_after_ms }) {
    if (request === "leave_room") isLeaving = false;
    const lobby = {
      create_room: "name",
      join_room: code === "name_taken" ? "name" : "code",
      spectate: "code",
    };
    const field = lobby[request];
    const text = `${message[0].toUpperCase()}${message.slice(1)}.`;
    if (known.room === null && field) complain(field, text);
    else if (retry_after_ms === null) tell(text);
    else tell(`${text} It is tried again in a moment.`);
    if (request === "spectate" && known.room) goTo(null);
  },
  error({ message, field }) {
    if (known.room === null && (field === "name" || field === "room")) {
      complain(field === "name" ? "name" : "code", `Not possible: ${message}.`);
    } else tell(`Not possible: ${message}.`);
  },
  presence(presence) {
    if (known.room) known.room.presence = presence;
  },
  emoji({ seat, emoji }) {
    const { room } = known;
    addLine(GESTURES[emoji] ?? emoji, "said", who(room.state, seat));
    room.gestures[seat] = emoji;
    setTimeout(() => {
      delete room.gestures[seat];
      redraw();
    }, GESTURE_MS);
  },
  left({ reason }) {
    if (known.room === null) return;
    goTo(null);
    if (reason === "room_gone" && !isLeaving) tell("The table was closed.");
    isLeaving = false;
    client.request({ type: "list_rooms" });
    if (wish.name !== null) create(wish.name, true);
  },
  draining() {
    tell("The server restarts in a moment; your seat is kept.");
  },
};

function narrate(before, after, event) {
  if (event.type === "chat") addLine(event.text, "said", who(after, event.seat));
  const text = sentence(before, after, event);
  if (text) addLine(text);
  if (!isMyTurn(before) && isMyTurn(after)) addLine("It is your turn.", "turn");
}

/** Takes the seat back from the bot, if the player is there to see it. */
function comeBack() {
  const { state } = known.room;
  const isSilent = state.viewer !== null && state.seats[state.viewer].silent;
  if (isSilent && state.status === "in_game" && !document.hidden) client.act({ type: "come_back" });
}

/** Enters a room, or the lobby. */
function goTo(room) {
  const isOther = known.room?.code !== room?.code;
  known.room = room;
  known.selected.clear();
  if (!isOther) return;
  history.replaceState(null, "", room ? `#${room.code}` : location.pathname);
  redraw();
  byId(room ? "room-title" : "lobby-title").focus();
}

function create(name, isQuick) {
  wish.isQuick = isQuick;
  wish.name = null;
  if (!client.request({ type: "create_room", name })) tell("There is no connection at the moment.");
}

function leave() {
  isLeaving = true;
  client.act({ type: "leave_room" });
}

/** Shows a finished game in the place of everything else. */
async function openReplay(id) {
  const response = await fetch(`/api/games/${encodeURIComponent(id)}`).catch(() => null);
  if (!response?.ok) {
    tell("There is no such game to be seen.");
    return;
  }
  known.replay = replayOf(await response.json());
  redraw();
  byId("room-title").focus();
}

const replayActions = {
  leave() {
    pause(known.replay);
    known.replay = null;
    redraw();
    byId(known.room ? "room-title" : "lobby-title").focus();
  },
  copy: () => copyLink(`${location.origin}/#replay-${known.replay.id}`),
  step(at) {
    goToStep(known.replay, at);
    redraw();
  },
  play() {
    togglePlay(known.replay, redraw);
    redraw();
  },
};

function copyLink(link) {
  const copied = navigator.clipboard?.writeText(link) ?? Promise.reject();
  copied.then(
    () => tell("The link is copied."),
    () => tell(`The link is ${link}`),
  );
}

const actions = {
  leave,
  replay: () => openReplay(`${known.room.code}-${known.room.epoch}`),
  again() {
    const { state } = known.room;
    wish.name = state.seats[state.viewer].name;
    leave();
  },
  copy: () => copyLink(`${location.origin}/#${known.room.code}`),
  addBot: () => client.act({ type: "add_bot" }),
  removeBot: (seat) => client.act({ type: "remove_bot", seat }),
  start: () => client.act({ type: "start" }),
  redeal: (accept) => client.act({ type: "redeal", accept }),
  declare: (piles) => client.act({ type: "declare", piles }),
  comeBack: () => client.act({ type: "come_back" }),
  select(id) {
    if (!known.selected.delete(id)) known.selected.add(id);
    redraw();
  },
  play(pieces, problem) {
    if (problem) tell(problem);
    else client.act({ type: "play", pieces });
  },
};

function redraw() {
  const { room, rooms, replay, selected } = known;
  const hasTable = room !== null || replay !== null;
  byId("lobby").hidden = hasTable || client.remembers;
  byId("returning").hidden = hasTable || !client.remembers;
  byId("room").hidden = !hasTable;
  document.body.dataset.view = hasTable ? "room" : "lobby";
  if (replay !== null) {
    drawTable(roomOf(replay), replayActions);
    drawReplay(replay, replayActions);
    byId("chat").hidden = byId("gestures").hidden = true;
    document.title = `Replay of table ${replay.code} – Liap Tui`;
    return;
  }
  if (room === null) {
    drawRooms(rooms);
    document.title = "Liap Tui";
    return;
  }
  drawTable(room, actions);
  drawHand(room.state, selected, actions);
  byId("chat").hidden = byId("gestures").hidden = room.state.viewer === null;
  document.title = `${isMyTurn(room.state) ? "Your turn – " : ""}Table ${room.code} – Liap Tui`;
}

/** Says something that matters now, in words that go away again. */
function tell(text) {
  const notice = byId("notice");
  notice.textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.textContent = ""), NOTICE_MS);
}

function showStatus(status) {
  const { kind, failures, code } = status;
  const text = {
    connecting: failures ? "Reconnecting …" : "Connecting …",
    open: "Connected",
    waiting: "Connection lost. Reconnecting …",
    stopped: code === 4004 ? "Playing in another window" : "Disconnected",
  }[kind];
  const slot = byId("status");
  slot.dataset.kind = kind;
  slot.textContent = text;
  if (kind !== "stopped") return;
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = code === 4004 ? "Play here" : "Connect again";
  again.addEventListener("click", () => client.start());
  slot.append(again);
}

setUpLobby({
  create,
  join: (room, name) => client.request({ type: "join_room", room, name }),
  watch: (room) => client.request({ type: "spectate", room }),
});
setUpTalk({
  say(text) {
    client.act({ type: "chat", text });
    return true;
  },
  gesture: (emoji) => client.request({ type: "emoji", emoji }),
});
byId("piece-list").replaceChildren(pieceTable());
byId("open-rules").addEventListener("click", () => {
  byId("rules").showModal();
  byId("rules-title").focus();
});
for (const event of ["online", "visibilitychange"]) {
  const target = event === "online" ? window : document;
  target.addEventListener(event, () => {
    if (!document.hidden && byId("status").dataset.kind === "waiting") client.start();
  });
}
setUpBest();
redraw();
client.start();
const asked = location.hash.match(/^#replay-(.+)$/)?.[1];
if (asked) openReplay(asked);
