// Speaks liap.v1 (docs/protocol.md) over a link that may break at any time: it resumes where it
// stopped, and sends each unanswered action again under its old number. It knows nothing of the page.

import { Link } from "./link.js";

const PROTOCOL = "liap.v1";
const STAY = new Set([1000, 1002, 1003, 1007, 1008, 1009, 4000, 4004, 4029]);
const START_ANEW = new Set([4002, 4003]);
const SAVED_AS = "liap.session";

export class Client {
  #options;
  #link;
  #session;
  #isWelcome = false;
  #hasState = false;
  #resend = null;

  /**
   * `onMessage(message)` gets each message of the server in order, `onStatus(status)` each change
   * of the connection: { kind: "connecting" | "open" | "waiting" | "stopped", ... }.
   * `storage` (sessionStorage) keeps token, position and unanswered actions across a reload.
   */
  constructor({ url, storage, onMessage, onStatus }) {
    this.#options = { storage, onMessage };
    this.#session = this.#load();
    this.#link = new Link({
      url,
      protocols: PROTOCOL,
      onOpen: () => this.#hello(),
      onMessage: (message) => this.#receive(message),
      onDown: () => this.#down(),
      onStatus,
      staysClosed: (code) => this.#ends(code),
      ping: (nonce) => ({ type: "ping", nonce }),
    });
  }

  /** Returns whether there is a room to come back to. */
  get remembers() {
    return this.#session.token !== null || this.#session.spectating !== null;
  }

  /** Returns the actions that the server has not answered yet. */
  get unanswered() {
    return this.#session.queue.length;
  }

  /** Connects, and stays connected; at once if a pause is running, or if it was given up. */
  start() {
    this.#link.start();
  }

  /** Says goodbye. */
  stop() {
    this.#link.stop();
  }

  /** Sends a message without a number; returns whether there was a connection for it. */
  request(message) {
    if (!this.#isWelcome) return false;
    return this.#link.send(message);
  }

  /** Sends an action under the next number, now or as soon as it can; returns the number. */
  act(message) {
    const session = this.#session;
    session.lastNumber += 1;
    session.queue.push({ ...message, action: session.lastNumber });
    this.#save();
    if (session.queue.length === 1) this.#sendFirst();
    return session.lastNumber;
  }

  #hello() {
    const { token } = this.#session;
    const resume = token === null ? undefined : { token, from: this.#from() };
    this.#link.send({ type: "hello", resume });
  }

  /** Returns the last event that was seen, as long as its state is still in memory. */
  #from() {
    const { epoch, offset } = this.#session;
    return this.#hasState ? { epoch, offset } : undefined;
  }

  #receive(message) {
    if (message.type === "event" && !this.#advance(message.offset)) return;
    RECEIVE[message.type]?.(this.#inside, message);
    this.#save();
    if (message.type === "welcome") this.#welcome(message);
    if (message.type === "joined" || message.type === "resumed") this.#sendFirst();
    this.#options.onMessage(message);
  }

  /** Takes the next offset; a hole cannot be, so it is answered by asking for the whole state. */
  #advance(offset) {
    if (offset !== this.#session.offset + 1) {
      this.#hasState = false;
      this.#link.lose({ reason: "an event is missing" });
      return false;
    }
    this.#session.offset = offset;
    return true;
  }

  #welcome({ heartbeat_ms }) {
    this.#isWelcome = true;
    this.#link.welcome(heartbeat_ms);
    const { spectating } = this.#session;
    if (spectating === null) return;
    this.#link.send({ type: "spectate", room: spectating, from: this.#from() });
  }

  /** What the handlers below may change. */
  get #inside() {
    return {
      session: this.#session,
      hasState: (has) => (this.#hasState = has),
      comeBackIn: (pause) => this.#link.comeBackIn(pause),
      lost: (reason) => this.#link.lose({ reason }),
      answered: (action) => this.#answered(action),
      retryLater: (pause) => {
        clearTimeout(this.#resend);
        this.#resend = setTimeout(() => this.#sendFirst(), pause);
      },
    };
  }

  #answered(action) {
    if (this.#session.queue[0]?.action !== action) return;
    this.#session.queue.shift();
    this.#sendFirst();
  }

  #sendFirst() {
    clearTimeout(this.#resend);
    const [first] = this.#session.queue;
    if (first !== undefined && this.#isWelcome && this.#hasState) this.#link.send(first);
  }

  /** Returns whether a close is for good; some mean that the room is lost as well. */
  #ends(code) {
    if (START_ANEW.has(code)) forgetRoom(this.#session);
    return STAY.has(code);
  }

  #down() {
    this.#isWelcome = false;
    clearTimeout(this.#resend);
    this.#save();
  }

  #load() {
    try {
      const saved = JSON.parse(this.#options.storage.getItem(SAVED_AS));
      return { ...newSession(), ...saved };
    } catch {
      return newSession();
    }
  }

  #save() {
    try {
      this.#options.storage.setItem(SAVED_AS, JSON.stringify(this.#session));
    } catch {
      // Without storage the game goes on; only a reload forgets it.
    }
  }
}

const newSession = () => ({
  ...{ token: null, room: null, spectating: null, epoch: null, offset: 0 },
  ...{ lastNumber: 0, queue: [] },
});

function forgetRoom(session) {
  Object.assign(session, newSession());
}

/** What a message changes in the client itself, before the page hears of it. */
const RECEIVE = {
  joined(client, { room, epoch, state, token }) {
    const { session } = client;
    if (session.room !== room) Object.assign(session, { lastNumber: 0, queue: [] });
    const number = Math.max(session.lastNumber, state.last_action ?? 0);
    const spectating = state.viewer === null ? room : null;
    Object.assign(session, { room, epoch, spectating, offset: state.offset, lastNumber: number });
    session.token = token?.token ?? null;
    client.hasState(true);
  },
  resumed({ session }, { last_action, token }) {
    session.lastNumber = Math.max(session.lastNumber, last_action ?? 0);
    session.token = token?.token ?? null;
  },
  not_resumed(client) {
    forgetRoom(client.session);
    client.hasState(false);
  },
  left(client) {
    forgetRoom(client.session);
    client.hasState(false);
  },
  ack(client, { action }) {
    client.answered(action);
  },
  refused(client, { request, action, retry_after_ms }) {
    if (request === "hello") {
      client.comeBackIn(retry_after_ms);
      client.lost("not resumed yet");
      return;
    }
    const isRoomGone = request === "spectate" && retry_after_ms === null;
    if (isRoomGone) forgetRoom(client.session);
    if (action === null) return;
    if (retry_after_ms === null) client.answered(action);
    else client.retryLater(retry_after_ms);
  },
  error(client, { action }) {
    if (action !== null) client.answered(action);
  },
  draining({ session, comeBackIn }, { come_back_in_ms, token }) {
    comeBackIn(come_back_in_ms);
    session.token = token?.token ?? session.token;
  },
};
