// Speaks the protocol of rooms (docs/protocol-rooms.md): every event of a room comes once and in
// order, or `onJoined` says that something is missing and brings the whole state.
//
// Part of infra-ws; it needs nothing but a browser.

import { Link } from "./link.js";
import { apply, hash } from "./delta.js";

const PROTOCOL = "rooms.v1.json";
const PATIENCE = 60_000;

/**
 * The server said no (`code` is the protocol's), the connection broke before it answered ("lost"), or
 * no answer came in time ("unanswered"): then what was asked may be done or not.
 */
export class Refused extends Error {
  constructor(code, message, retryAfter) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export class Rooms {
  #options;
  #link;
  #rooms = new Map();
  #asked = new Map();
  #lastId = 0;
  #isKnown = false;
  #life = 0;
  #work = Promise.resolve();

  /**
   * `token()` returns, or promises, what the application's authentication takes. Whoever asks
   * something waits at most `patience` milliseconds for the answer, a minute by default.
   *
   * `onEvent(room, { offset, data })` gets each event once, in order.
   * `onJoined(room, { recovered, from, state, seat, user, present })` tells of each entry, also of
   * one after a break: `recovered.outcome` is "fresh", "recovered" (nothing is missing) or
   * "not_recovered" (the events begin anew behind `from`, and `state` is whole).
   * `onMessage(room, data)`, `onPresence(room, { joined, left })`, `onState(room, part, state)`,
   * `onStatus(status)` (see Link) and `onRefused(room, refused)` tell of the rest.
   */
  constructor({ url, token, patience = PATIENCE, link = {}, ...listeners }) {
    const none = () => {};
    const defaults = { onEvent: none, onJoined: none, onMessage: none, onPresence: none };
    Object.assign(defaults, { onState: none, onStatus: none, onRefused: none });
    this.#options = { ...defaults, ...listeners, token, patience };
    this.#link = new Link({
      patience,
      ...link,
      url,
      protocols: [PROTOCOL],
      onOpen: () => this.#hello(),
      onMessage: (message) => this.#receive(message),
      onDown: () => this.#down(),
      onStatus: (status) => this.#options.onStatus(status),
    });
  }

  /** Connects, and stays connected. */
  start() {
    this.#link.start();
  }

  /** Leaves everything as it is, and closes the connection. */
  stop() {
    this.#link.stop();
  }

  /** Enters a room, and enters it again after each break, until `leave`. */
  join(name, { seat, from } = {}) {
    if (this.#rooms.has(name)) return;
    this.#rooms.set(name, { place: from ?? null, token: null, seat, isIn: false, follows: false, parts: {} });
    if (this.#isKnown) this.#enter(name);
  }

  /** Leaves a room for good. */
  async leave(name) {
    this.#rooms.delete(name);
    return this.#ask({ type: "leave", room: name });
  }

  /** Says something to a room; the answer has its place, if it is an event. */
  async publish(room, data) {
    return this.#ask({ type: "publish", room, data });
  }

  /** Asks the application something. */
  async request(method, data = null, room = undefined) {
    const { data: answer } = await this.#ask({ type: "request", room, method, data });
    return answer;
  }

  /** Follows the state of a room, from now on and after each break. */
  follow(name) {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    room.follows = true;
    if (room.isIn) this.#sync(name, room);
  }

  /** Returns the last place that was seen of a room, such as to keep it across a reload. */
  place(name) {
    return this.#rooms.get(name)?.place ?? null;
  }

  async #hello() {
    const life = this.#life;
    const token = await this.#options.token();
    if (life === this.#life) this.#link.send({ type: "connect", token });
  }

  #down() {
    this.#life += 1;
    this.#isKnown = false;
    for (const room of this.#rooms.values()) room.isIn = false;
    // What was asked may be done or not: only the one who asked knows whether to ask again.
    const broken = new Refused("lost", "the connection broke");
    for (const id of [...this.#asked.keys()]) this.#answered(id, ({ reject }) => reject(broken));
  }

  #ask(message) {
    this.#lastId += 1;
    const id = this.#lastId;
    const giveUp = (code, why) =>
      this.#answered(id, ({ reject }) => reject(new Refused(code, why)));
    return new Promise((resolve, reject) => {
      const late = () => giveUp("unanswered", "no answer in time");
      const timer = setTimeout(late, this.#options.patience);
      this.#asked.set(id, { resolve, reject, timer });
      if (!this.#link.send({ ...message, id })) giveUp("lost", "there is no connection");
    });
  }

  /** Enters by the newest token, or by name, and says what was seen. */
  async #enter(name) {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    const from = room.place ?? undefined;
    const { token } = room;
    try {
      if (token !== null) await this.#ask({ type: "resume", token, from });
      else await this.#ask({ type: "join", room: name, seat: room.seat, from });
    } catch (refused) {
      if (refused.code === "lost") return;
      if (refused.code === "unanswered") {
        this.#link.lose({ reason: refused.message });
        return;
      }
      room.token = null;
      if (token !== null) await this.#enter(name);
      else this.#refused(name, refused);
    }
  }

  #refused(name, refused) {
    this.#options.onRefused(name, refused);
    if (refused.code !== "unavailable") this.#rooms.delete(name);
    else this.#link.lose({ reason: refused.message, isUnavailable: true });
  }

  /** Messages are handled one after the other, though hashes take a moment. */
  #receive(message) {
    const life = this.#life;
    // What a socket said that is gone by now says nothing about the next one.
    const handle = () => life === this.#life && RECEIVE[message.type]?.(this.#inside, message);
    // A listener that throws is the page's bug to see, and stops nothing here.
    this.#work = this.#work.then(handle).catch((error) => queueMicrotask(() => { throw error; }));
  }

  #answered(id, how) {
    const asked = this.#asked.get(id);
    if (asked === undefined) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    how(asked);
  }

  #sync(name, room) {
    this.#link.send({ type: "sync", room: name, version: room.parts.shared?.version });
  }

  /** What the handlers below may do. */
  get #inside() {
    return {
      options: this.#options,
      link: this.#link,
      room: (name) => this.#rooms.get(name),
      answered: (id, how) => this.#answered(id, how),
      known: () => {
        this.#isKnown = true;
        for (const name of this.#rooms.keys()) this.#enter(name);
      },
      again: (name) => {
        const room = this.#rooms.get(name);
        room.isIn = false;
        this.#enter(name);
      },
      sync: (name, room) => this.#sync(name, room),
    };
  }
}

/** What each message of the server does. */
const RECEIVE = {
  connected({ link, known }, { heartbeat_ms }) {
    link.welcome(heartbeat_ms);
    known();
  },
  joined(client, message) {
    const { id, room: name, token, from } = message;
    const room = client.room(name);
    client.answered(id, ({ resolve }) => resolve(message));
    if (room === undefined) return;
    Object.assign(room, { isIn: true, token, place: from });
    client.options.onJoined(name, message);
    if (room.follows) client.sync(name, room);
  },
  events(client, { room: name, epoch, events }) {
    const room = client.room(name);
    for (const event of events) {
      if (!room?.isIn) return;
      const seen = room.place;
      if (seen.epoch === epoch && event.offset <= seen.offset) continue;
      const isSame = seen.epoch === epoch || seen.epoch === "";
      if (!isSame || event.offset !== seen.offset + 1) {
        client.again(name);
        return;
      }
      room.place = { epoch, offset: event.offset };
      client.options.onEvent(name, event);
    }
  },
  position(client, { room: name, place }) {
    const room = client.room(name);
    if (!room?.isIn) return;
    const { epoch, offset } = room.place;
    const isOther = place.epoch !== "" && place.epoch !== epoch;
    if (isOther || offset < place.offset) client.again(name);
  },
  lost(client, { room: name }) {
    if (client.room(name)?.isIn) client.again(name);
  },
  token(client, { room: name, token }) {
    const room = client.room(name);
    if (room !== undefined) room.token = token;
  },
  async state(client, { room: name, part, update }) {
    const room = client.room(name);
    if (!room?.isIn) return;
    const next = await brought(room.parts[part], update);
    room.parts[part] = next;
    if (next === undefined) client.sync(name, { parts: {} });
    else client.options.onState(name, part, next.state);
  },
  message({ options }, { room, data }) {
    options.onMessage(room ?? null, data);
  },
  presence({ options }, { room, joined, left }) {
    options.onPresence(room, { joined, left });
  },
  ack({ answered }, message) {
    answered(message.id, ({ resolve }) => resolve(message));
  },
  reply({ answered }, message) {
    answered(message.id, ({ resolve }) => resolve(message));
  },
  error({ answered }, { id, code, message, retry_after_ms }) {
    answered(id, ({ reject }) => reject(new Refused(code, message, retry_after_ms ?? null)));
  },
  goodbye({ link }, { retry_after_ms }) {
    link.comeBackIn(retry_after_ms);
  },
};

/** Returns a part of a room's state with an update; undefined if only the whole will do. */
async function brought(part, update) {
  if (update.strategy === "current") return part?.version === update.version ? part : undefined;
  const isDelta = update.strategy === "delta";
  if (isDelta && part?.version !== update.from) return undefined;
  if (!isDelta) return { version: update.version, state: update.state };
  const state = apply(part.state, update.patch);
  // The hash is of the server's text: a number that JavaScript writes otherwise (1.0) brings the whole.
  if (state === undefined || (await hash(state)) !== update.hash) return undefined;
  return { version: update.to, state };
}
