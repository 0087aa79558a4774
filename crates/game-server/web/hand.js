// What the player does: the prompt, the hand, and the buttons of the moment.

import { byId, draw, el } from "./dom.js";
import { token } from "./pieces.js";
import { HAND, classify, piece, pieceName, playName } from "./rules.js";
import { count, who } from "./words.js";

/** Draws the player's part; `selected` is the set of chosen pieces. */
export function drawHand(state, selected, actions) {
  const { viewer, game } = state;
  draw(byId("prompt-slot"), [prompt(state)], () =>
    el("h2", { id: "prompt", class: "prompt", tabindex: "-1", "data-rest": true }, prompt(state)),
  );
  const hand = viewer === null ? null : (game?.hand ?? null);
  draw(byId("hand"), [hand], () =>
    hand?.length ? handGroup(hand, selected, actions.select) : null,
  );
  for (const button of byId("hand").querySelectorAll("[data-piece]")) {
    button.setAttribute("aria-pressed", String(selected.has(Number(button.dataset.piece))));
  }
  drawActions(state, selected, actions);
}

/** Returns whether the player is to act. */
export function isMyTurn({ viewer, game }) {
  return viewer !== null && game?.awaited === viewer;
}

function prompt(state) {
  const { status, viewer, game, host } = state;
  if (status === "completed") return "The game is over";
  if (status === "abandoned") return "The table is closed";
  if (!game) {
    if (viewer === null) return "The game has not begun";
    return host === viewer
      ? "Start when you are ready; bots take the free seats"
      : "Waiting for the host to start";
  }
  if (viewer !== null && state.seats[viewer].silent) return "A bot plays for you";
  if (isMyTurn(state)) return myPrompt(game);
  if (game.awaited !== null) return `Waiting for ${who(state, game.awaited)}`;
  return game.phase === "scoring" ? "The next round is about to be dealt" : "One moment";
}

function myPrompt({ phase, table }) {
  if (phase === "preparation") return "Your hand is weak. Do you want a redeal?";
  if (phase === "declaration") return "Your turn: how many piles will you take?";
  const [led] = table;
  if (!led) return "Your turn: begin with any valid play";
  const n = count(led.pieces.length, "piece");
  return `Your turn: put down ${n}; ${playName(led.play)} leads`;
}

function handGroup(hand, selected, select) {
  const buttons = hand.map((id) => {
    const { kind, points } = piece(id);
    return el(
      "button",
      {
        ...{ type: "button", class: "piece", "data-piece": id, "data-key": `piece-${id}` },
        ...{
          "aria-pressed": String(selected.has(id)),
          "aria-label": `${pieceName(id)}, ${count(points, "point")}`,
        },
        on: { click: () => select(id) },
      },
      token(id),
      el("span", { class: "label" }, `${kind} ${points}`),
    );
  });
  return el(
    "div",
    { class: "hand", role: "group", "aria-label": "Your hand", on: { keydown: moveAlong } },
    buttons,
  );
}

/** Moves the focus along the hand with the arrow keys, Home and End. */
function moveAlong(event) {
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 };
  const to = steps[event.key];
  if (to === undefined) return;
  event.preventDefault();
  buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
}

function drawActions(state, selected, actions) {
  const { status, viewer, game, host } = state;
  const chosen = [...selected].sort((a, b) => a - b);
  const silent = viewer !== null && state.seats[viewer].silent;
  const model = [
    status,
    viewer,
    host,
    silent,
    game?.phase,
    game?.awaited,
    game?.may_declare,
    game?.table,
    chosen,
  ];
  draw(byId("actions"), model, () => {
    if (viewer === null) return null;
    if (status === "completed") return [replayButton(actions), ...afterwards(actions)];
    if (status === "abandoned") return afterwards(actions);
    if (!game)
      return host === viewer ? button("Start the game", "start", actions.start, "primary") : null;
    if (silent) return button("Take my seat back", "come-back", actions.comeBack, "primary");
    if (game.phase === "turn") return playButton(state, chosen, actions.play);
    if (!isMyTurn(state)) return null;
    if (game.phase === "preparation") return redealButtons(actions.redeal);
    return declareButtons(game, actions.declare);
  });
}

function button(text, key, click, className = "") {
  return el("button", { type: "button", class: className, "data-key": key, on: { click } }, text);
}

function replayButton({ replay }) {
  return button("See it move by move", "replay", replay);
}

function afterwards({ again, leave }) {
  return [
    button("Play again against three bots", "again", again, "primary"),
    button("Back to the lobby", "back", leave),
  ];
}

function redealButtons(redeal) {
  return [
    button("Ask for a redeal", "redeal", () => redeal(true), "primary"),
    button("Keep this hand", "keep", () => redeal(false)),
  ];
}

function declareButtons(game, declare) {
  const numbers = Array.from({ length: HAND + 1 }, (_, piles) => piles);
  const buttons = numbers.map((piles) => {
    const isAllowed = game.may_declare.includes(piles);
    const isThirdZero = piles === 0 && 2 <= game.zeros[game.awaited];
    const reason = isThirdZero ? "after two rounds of 0" : "the sum would be 8";
    const label = `Declare ${count(piles, "pile")}${isAllowed ? "" : `, not allowed: ${reason}`}`;
    const attributes = {
      type: "button",
      class: "number",
      "aria-label": label,
      title: label,
      "data-key": `declare-${piles}`,
    };
    return el(
      "button",
      { ...attributes, disabled: !isAllowed, on: { click: () => declare(piles) } },
      String(piles),
    );
  });
  return el("div", { class: "numbers", role: "group", "aria-label": "Declare" }, buttons);
}

/** Returns what the chosen pieces would be: { text, problem }. */
export function judge(state, chosen) {
  const { game } = state;
  const led = game.table[0];
  const found = classify(chosen);
  const what = found ? `${playName(found.type)}, ${count(found.points, "point")}` : "no valid play";
  if (!isMyTurn(state))
    return { text: chosen.length ? `Chosen: ${what}` : "Play", problem: "It is not your turn." };
  if (chosen.length === 0) return { text: "Play", problem: "Choose pieces of your hand first." };
  if (!led) {
    if (found) return { text: `Play ${what}`, problem: null };
    return { text: "Play", problem: "These pieces are no valid play." };
  }
  const needed = led.pieces.length;
  if (chosen.length !== needed) {
    return { text: "Play", problem: `Choose ${count(needed, "piece")}; ${chosen.length} chosen.` };
  }
  if (found?.type === led.play) return { text: `Play ${what}`, problem: null };
  return { text: `Put down ${count(needed, "piece")}, which cannot win`, problem: null };
}

function playButton(state, chosen, play) {
  const { text, problem } = judge(state, chosen);
  const attributes = {
    ...{ type: "button", class: "primary", "data-key": "play", "data-rest": true },
    ...{ "aria-disabled": problem ? "true" : null, "aria-describedby": "why" },
    on: { click: () => play(chosen, problem) },
  };
  return [el("button", attributes, text), el("p", { id: "why", class: "soft" }, problem ?? "")];
}
