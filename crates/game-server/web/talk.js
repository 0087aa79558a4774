// What is said and what happens, in one list that screen readers follow.

import { byId, el } from "./dom.js";
import { onSubmit } from "./lobby.js";
import { GESTURES } from "./table.js";

const LINES = 200;

/** Connects the chat and the gestures. */
export function setUpTalk({ say, gesture }) {
  onSubmit("chat", () => {
    const input = byId("chat-text");
    const text = input.value.trim();
    if (text !== "" && say(text)) input.value = "";
  });
  const buttons = Object.entries(GESTURES).map(([name, words]) =>
    el("button", { type: "button", on: { click: () => gesture(name) } }, words),
  );
  byId("gestures").replaceChildren(...buttons);
}

/** Adds a line; `speaker` is who said it, if somebody did. */
export function addLine(text, kind = "event", speaker = null) {
  const feed = byId("feed");
  const isAtEnd = feed.scrollHeight - feed.scrollTop - feed.clientHeight < 40;
  const said = speaker === null ? null : el("strong", {}, `${speaker}: `);
  feed.append(el("li", { class: kind }, said, text));
  while (LINES < feed.childElementCount) feed.firstElementChild.remove();
  if (isAtEnd) feed.scrollTop = feed.scrollHeight;
}

/** Empties the list. */
export function clearLines() {
  byId("feed").replaceChildren();
}
