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

/**
 * Draws the machine of all rooms: { nodes: [{ id, active, average_seconds }], edges: [{ from, to,
 * succeeded, failed, error_rate }] }. The more rooms are in a state the fuller it is; the more of a
 * way fails, the redder it is.
 */
export function machine({ nodes, edges }) {
  const rooms = nodes.reduce((sum, { active }) => sum + active, 0);
  const label = `State machine of all ${rooms} rooms in memory`;
  const box = { viewBox: "0 0 1010 270", role: "img", "aria-label": label };
  const ways = edges.filter(({ from, to }) => PLACES[from] && PLACES[to]).map(counted);
  const states = nodes.filter(({ id }) => PLACES[id]).map((one) => filled(one, rooms));
  return svg("svg", box, ...ways, ...states);
}

function counted({ from, to, succeeded, failed, error_rate: rate, average_ms: took }) {
  const { path, at } = route(from, to);
  const gone = succeeded + failed > 0;
  const classes = `way${gone ? "" : " quiet"}${heat(rate)}`;
  const line = svg("path", { d: path, class: classes });
  const mean = took === null ? "" : `, ${took.toFixed(1)} ms on average`;
  const words = `${from} to ${to}: ${succeeded} times, ${failed} failed${mean}`;
  const group = svg("g", { "data-way": `${from}-${to}` }, svg("title", {}, words), line);
  if (at && gone) {
    const text = failed > 0 ? `${succeeded} (${failed} failed)` : String(succeeded);
    group.append(svg("text", { x: at[0], y: at[1], class: "way-name" }, text));
  }
  return group;
}

/** Returns how hot a way is by the share of it that fails: from 1 and from 5 in a hundred on. */
function heat(rate) {
  if (rate === 0) return "";
  return rate < 0.01 ? " warm" : rate < 0.05 ? " hot" : " burning";
}

function filled({ id, active, average_seconds: stay }, rooms) {
  const [x, y] = PLACES[id];
  const place = { x: x - WIDTH / 2, y: y - HEIGHT / 2, height: HEIGHT, rx: 12 };
  const share = rooms === 0 ? 0 : active / rooms;
  const mean = stay === null ? "" : `, ${stay.toFixed(1)} s in it on average`;
  return svg(
    "g",
    { "data-state": id, "data-active": active },
    svg("title", {}, `${id}: ${active} rooms${mean}`),
    svg("rect", { ...place, width: WIDTH, class: "node" }),
    svg("rect", { ...place, width: WIDTH * share, class: "fill" }),
    svg("text", { x, y, class: "node-name" }, `${id} ${active}`),
  );
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
