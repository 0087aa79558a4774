// Speaks liap.v1 (docs/protocol.md) over a WebSocket that may break at any time: it connects again
// after growing pauses, resumes where it stopped, and sends each unanswered action again under its
// old number. It knows nothing of the page.

const PROTOCOL = "liap.v1";
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const STAY = new Set([1000, 1002, 1003, 1007, 1008, 1009, 4000, 4004, 4029]);
const START_ANEW = new Set([4002, 4003]);
const SAVED_AS = "liap.session";

export class Client {
  #options;
  #socket = null;
  #session;
  #isWelcome = false;
  #hasState = false;
  #failures = 0;
  #retryTimer = null;
  #comeBackIn = null;
  #pulse = null;
  #heard = 0;
  #asked = null;
  #resend = null;

  /**
   * `onMessage(message)` gets each message of the server in order, `onStatus(status)` each change
   * of the connection: { kind: "connecting" | "open" | "waiting" | "stopped", ... }.
   * `storage` (sessionStorage) keeps token, position and unanswered actions across a reload.
   */
  constructor({ url, storage, onMessage, onStatus, random = Math.random, now = Date.now }) {
    this.#options = { url, storage, onMessage, onStatus, random, now };
    this.#session = this.#load();
  }

  /** Returns whether there is a room to come back to. */
  get remembers() {
    return this.#session.token !== null || this.#session.spectating !== null;
  }

  /** Returns the actions that the server has not answered yet. */
  get unanswered() {
    return this.#session.queue.length;
  }

  /** Connects, and stays connected. */
  start() {
    this.#failures = 0;
    this.#open();
  }

  /** Connects at once if a pause is running, or if the connection was given up. */
  retryNow() {
    if (this.#socket === null) this.start();
  }

  /** Says goodbye. */
  stop() {
    this.#drop(1000);
    this.#tell({ kind: "stopped", code: 1000, reason: "goodbye" });
  }

  /** Sends a message without a number; returns whether there was a connection for it. */
  request(message) {
    if (!this.#isWelcome) return false;
    this.#send(message);
    return true;
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

  #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#tell({ kind: "connecting", failures: this.#failures });
    const socket = new WebSocket(this.#options.url, PROTOCOL);
    this.#socket = socket;
    socket.onopen = () => this.#hello();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#closed(code, reason);
  }

  #hello() {
    const { token } = this.#session;
    const resume = token === null ? undefined : { token, from: this.#from() };
    this.#heard = this.#options.now();
    this.#send({ type: "hello", resume });
  }

  /** Returns the last event that was seen, as long as its state is still in memory. */
  #from() {
    const { epoch, offset } = this.#session;
    return this.#hasState ? { epoch, offset } : undefined;
  }

  #send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #receive(data) {
    this.#heard = this.#options.now();
    const message = JSON.parse(data);
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
      this.#lost({ code: 0, reason: "an event is missing" });
      return false;
    }
    this.#session.offset = offset;
    return true;
  }

  #welcome({ heartbeat_ms }) {
    this.#isWelcome = true;
    this.#failures = 0;
    this.#asked = null;
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#beat(), heartbeat_ms);
    this.#tell({ kind: "open" });
    const { spectating } = this.#session;
    if (spectating !== null) this.#send({ type: "spectate", room: spectating, from: this.#from() });
  }

  /** Asks for a sign of life; no answer until the next beat means that the connection is dead. */
  #beat() {
    if (this.#asked !== null && this.#heard < this.#asked) {
      this.#lost({ code: 0, reason: "nothing was heard" });
      return;
    }
    this.#asked = this.#options.now();
    this.#send({ type: "ping", nonce: this.#asked });
  }

  /** What the handlers below may change. */
  get #inside() {
    return {
      session: this.#session,
      hasState: (has) => (this.#hasState = has),
      comeBackIn: (pause) => (this.#comeBackIn = pause),
      lost: (reason) => this.#lost({ code: 0, reason }),
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
    if (first !== undefined && this.#isWelcome && this.#hasState) this.#send(first);
  }

  #closed(code, reason) {
    if (START_ANEW.has(code)) forgetRoom(this.#session);
    if (STAY.has(code)) {
      this.#drop();
      this.#tell({ kind: "stopped", code, reason });
      return;
    }
    this.#lost({ code, reason });
  }

  #lost({ code, reason }) {
    this.#drop(1000);
    const bound = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failures);
    const pause = this.#comeBackIn ?? Math.round(this.#options.random() * bound);
    this.#comeBackIn = null;
    this.#failures += 1;
    this.#retryTimer = setTimeout(() => this.#open(), pause);
    this.#tell({ kind: "waiting", pause, code, reason });
  }

  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isWelcome = false;
    clearInterval(this.#pulse);
    clearTimeout(this.#resend);
    clearTimeout(this.#retryTimer);
    if (code !== undefined) socket?.close(code);
    this.#save();
  }

  #tell(status) {
    this.#options.onStatus(status);
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
