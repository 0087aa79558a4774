// The state machine of a room as a picture, with the state that it is in.

import { svg } from "/dom.js";

const WIDTH = 130;
const HEIGHT = 40;
const PLACES = {
  waiting: [80, 110],
  ready: [250, 110],
  preparation: [420, 110],
  declaration: [590, 110],
  turn: [760, 110],
  scoring: [930, 110],
  abandoned: [505, 230],
  completed: [930, 230],
};

/** Draws a diagram: { states, transitions: [{ from, to, events }], current }. */
export function diagram({ states, transitions, current }) {
  const label = `State machine of the room; it is in the state ${current}`;
  const box = { viewBox: "0 0 1010 270", role: "img", "aria-label": label };
  const tip = { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7 };
  const head = svg("path", { d: "M0 0 8 4 0 8z", class: "head" });
  const marker = svg("marker", { ...tip, orient: "auto-start-reverse" }, head);
  const ways = transitions.filter(({ from, to }) => PLACES[from] && PLACES[to]).map(way);
  const nodes = states.filter((state) => PLACES[state]).map((state) => node(state, current));
  return svg("svg", box, svg("defs", {}, marker), ...ways, ...nodes);
}

function node(state, current) {
  const [x, y] = PLACES[state];
  const mark = state === current ? " current" : "";
  const place = { x: x - WIDTH / 2, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT, rx: 12 };
  const name = svg("text", { x, y, class: `node-name${mark}` }, state);
  return svg("g", {}, svg("rect", { ...place, class: `node${mark}` }), name);
}

function way({ from, to, events }) {
  const { path, at } = route(from, to);
  const isQuiet = to === "abandoned";
  const line = svg("path", {
    d: path,
    class: `way${isQuiet ? " quiet" : ""}`,
    "marker-end": "url(#tip)",
  });
  const words = events.map((event) => event.replaceAll("_", " ")).join(" or ");
  const group = svg("g", {}, svg("title", {}, `${from} to ${to}: ${words}`), line);
  if (at) {
    const lines = words.split(/ (?=or )/);
    lines.forEach((text, row) => {
      const y = at[1] - (lines.length - 1 - row) * 12;
      group.append(svg("text", { x: at[0], y, class: "way-name" }, text));
    });
  }
  return group;
}

/** Returns the path of an arrow and where its name stands, if there is room for it. */
function route(from, to) {
  const [x1, y1] = PLACES[from];
  const [x2, y2] = PLACES[to];
  if (y1 !== y2) {
    const start = `M${x1} ${y1 + HEIGHT / 2}`;
    if (x1 === x2) return { path: `${start}V${y2 - HEIGHT / 2}`, at: [x1 - 44, (y1 + y2) / 2] };
    const edge = x1 < x2 ? x2 - WIDTH / 2 : x2 + WIDTH / 2;
    if (Math.abs(x1 - x2) < WIDTH) return { path: `${start}L${(x1 + x2) / 2} ${y2 - HEIGHT / 2}` };
    return { path: `${start}Q${x1} ${y2} ${edge} ${y2}` };
  }
  const isBack = x2 < x1;
  const isFar = WIDTH * 2 < Math.abs(x1 - x2);
  if (isBack && isFar) {
    const rise = y1 - 34 - Math.abs(x1 - x2) / 7;
    const top = y1 - HEIGHT / 2;
    return {
      path: `M${x1 - 20} ${top}C${x1 - 40} ${rise} ${x2 + 40} ${rise} ${x2 + 20} ${top}`,
      at: [(x1 + x2) / 2, rise * 0.75 + top * 0.25 - 5],
    };
  }
  const shift = isBack ? 10 : -10;
  const [start, end] = isBack ? [x1 - WIDTH / 2, x2 + WIDTH / 2] : [x1 + WIDTH / 2, x2 - WIDTH / 2];
  const y = y1 + shift;
  return { path: `M${start} ${y}H${end}`, at: [(x1 + x2) / 2, isBack ? y1 + 46 : y1 - 26] };
}
