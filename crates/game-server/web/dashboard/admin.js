// Asks the admin listener: JSON by fetch, and the live stream, each with the token if one is needed.

const SAVED_AS = "liap.admin";

let token = fromAddress() ?? sessionStorage.getItem(SAVED_AS);

/** Takes the token out of the address, where it may stand behind #token=. */
function fromAddress() {
  const [, given] = location.hash.match(/^#token=(.+)$/) ?? [];
  if (given === undefined) return null;
  history.replaceState(null, "", location.pathname);
  return keep(decodeURIComponent(given));
}

function keep(given) {
  sessionStorage.setItem(SAVED_AS, given);
  return given;
}

/** Uses this token from now on. */
export function setToken(given) {
  token = keep(given);
}

/** Thrown where the listener asks for a token, or for another one. */
export class Unauthorized extends Error {}

async function get(path, options = {}) {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) throw new Unauthorized("the listener asks for a token");
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

/** Returns the JSON at a path. */
export async function ask(path) {
  return (await get(path)).json();
}

/** Hears the live stream until it ends; `onMessage(name, data)` gets each message of it. */
export async function listen(path, onMessage, onOpen) {
  const response = await get(path);
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const messages = (rest + value).split("\n\n");
    rest = messages.pop();
    for (const message of messages) dispatch(message, onMessage);
  }
}

/** Reads one message of the stream; comments, which begin with a colon, keep it alive only. */
function dispatch(message, onMessage) {
  const lines = message.split("\n").map((line) => line.split(/: ?(.*)/s));
  const value = (field) => lines.filter(([name]) => name === field).map(([, text]) => text);
  const data = value("data");
  if (data.length > 0) onMessage(value("event")[0] ?? "message", JSON.parse(data.join("\n")));
}
