// A WebSocket that may break at any time: it connects again after scattered pauses, short ones while a
// server restarts and growing ones otherwise, asks for signs of life, and gives up only when it is told
// to. It knows nothing of what is said on it.
//
// Part of infra-ws; it needs nothing but a browser (or anything else with a global WebSocket).

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const SEARCH = { longestPause: 1_000, window: 30_000 };
const PATIENCE = 60_000;

export class Link {
  #options;
  #socket = null;
  #failures = 0;
  #knocks = 0;
  #since = 0;
  #timer = null;
  #comeBackIn = null;
  #isWelcome = false;
  #pulse = null;
  #heard = 0;
  #asked = null;

  /**
   * `onOpen()` is called for each new socket, `onMessage(message)` for each message, as parsed JSON,
   * `onDown()` whenever a socket is given up, and `onStatus(status)` for each change:
   * { kind: "connecting" | "open" | "waiting" | "stopped", ... }.
   * `staysClosed(code)` says whether a close is for good; by default only what says that the client
   * itself is at fault. `ping(now)` makes the message that asks for a sign of life.
   * A socket that does not become welcome within `patience` (milliseconds) is given up.
   * For `search.window` after the last welcome a server that is away (it restarts, was cut off, or
   * there is none) is looked for with pauses of at most `search.longestPause`.
   * `random` and `now` are for tests.
   */
  constructor({
    url,
    protocols = [],
    onOpen = () => {},
    onMessage = () => {},
    onDown = () => {},
    onStatus = () => {},
    staysClosed = isFault,
    ping = () => ({ type: "ping" }),
    firstPause = FIRST_PAUSE,
    longestPause = LONGEST_PAUSE,
    search = SEARCH,
    patience = PATIENCE,
    random = Math.random,
    now = Date.now,
  }) {
    this.#options = { url, protocols, onOpen, onMessage, onDown, onStatus, staysClosed, ping };
    Object.assign(this.#options, { firstPause, longestPause, search, patience, random, now });
  }

  /** Returns whether a socket is open, or about to be. */
  get isUp() {
    return this.#socket !== null;
  }

  /** Connects, and stays connected; harmless if it is connected already. */
  start() {
    if (this.#socket !== null) return;
    this.#anew();
    this.#connect();
  }

  /** Closes the connection for good, until `start`. */
  stop(code = 1000, reason = "goodbye") {
    this.#drop(code);
    this.#options.onStatus({ kind: "stopped", code, reason });
  }

  /** Sends a message as JSON; returns whether there was a connection for it. */
  send(message) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /**
   * Takes the connection for good, and asks it for signs of life; see `lose` for the pause after it.
   */
  welcome(heartbeat) {
    this.#isWelcome = true;
    this.#asked = null;
    clearTimeout(this.#timer);
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#beat(), heartbeat);
    this.#options.onStatus({ kind: "open" });
  }

  /** Sets the next pause, because the server named it. */
  comeBackIn(pause) {
    this.#comeBackIn = pause;
  }

  /**
   * Gives the socket up, and comes back after a pause; a longer one than the last if the server
   * `isUnavailable`, however welcome the client was. Harmless if there is no socket.
   */
  lose({ code = 0, reason = "", isUnavailable = false } = {}) {
    if (this.#socket === null) return;
    if (this.#isWelcome && !isUnavailable) this.#anew();
    this.#drop(1000);
    const { random, onStatus } = this.#options;
    // Full jitter: whoever lost a server together must not come back together.
    const bound = this.#bound(AWAY.has(code));
    const pause = this.#comeBackIn ?? Math.round(random() * bound);
    this.#comeBackIn = null;
    this.#timer = setTimeout(() => this.#connect(), pause);
    onStatus({ kind: "waiting", pause, code, reason });
  }

  /** Begins to count anew: a connection that was good is over. */
  #anew() {
    this.#failures = 0;
    this.#knocks = 0;
    this.#since = this.#options.now();
  }

  /** Returns the longest that the next pause may be, and counts it. */
  #bound(isAway) {
    const { firstPause, longestPause, search, now } = this.#options;
    const grown = (count) => Math.min(longestPause, firstPause * 2 ** count);
    if (isAway && now() - this.#since < search.window) {
      return Math.min(search.longestPause, grown(this.#knocks++));
    }
    return grown(this.#failures++);
  }

  #connect() {
    const { url, protocols, patience, onOpen, onStatus, now } = this.#options;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.lose({ reason: "no welcome in time" }), patience);
    onStatus({ kind: "connecting", failures: this.#failures + this.#knocks });
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    const isCurrent = () => socket === this.#socket;
    socket.onopen = () => {
      if (!isCurrent()) return;
      this.#heard = now();
      onOpen();
    };
    socket.onmessage = ({ data }) => isCurrent() && this.#receive(data);
    socket.onclose = ({ code, reason }) => isCurrent() && this.#closed(code, reason);
  }

  #receive(data) {
    this.#heard = this.#options.now();
    this.#options.onMessage(JSON.parse(data));
  }

  /** Asks for a sign of life; no answer until the next beat means that the connection is dead. */
  #beat() {
    if (this.#asked !== null && this.#heard < this.#asked) {
      this.lose({ reason: "nothing was heard" });
      return;
    }
    this.#asked = this.#options.now();
    this.send(this.#options.ping(this.#asked));
  }

  #closed(code, reason) {
    if (!this.#options.staysClosed(code)) {
      this.lose({ code, reason });
      return;
    }
    this.#drop();
    this.#options.onStatus({ kind: "stopped", code, reason });
  }

  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isWelcome = false;
    clearInterval(this.#pulse);
    clearTimeout(this.#timer);
    if (code !== undefined) socket?.close(code);
    this.#options.onDown();
  }
}

/** The closes of a server that goes away or restarts, and what browsers say where there is none. */
const AWAY = new Set([1001, 1006, 1012]);

/** The closes that coming back would not change. */
const FAULTS = new Set([1000, 1002, 1003, 1007, 1008, 1009, 4003, 4010, 4011, 4012]);

function isFault(code) {
  return FAULTS.has(code);
}
