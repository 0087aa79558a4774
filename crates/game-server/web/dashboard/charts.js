// Pictures of figures: columns of a rate, columns of a histogram.

import { el, svg } from "/dom.js";

const WIDTH = 380;
const HEIGHT = 110;
const FOOT = 18;

/** Returns a number with at most three digits that count. */
export function short(n) {
  if (n >= 1e6) return `${(n / 1e6).toPrecision(3)} M`;
  if (n >= 1e4) return `${(n / 1e3).toPrecision(3)} k`;
  return Number.isInteger(n) ? String(n) : n.toPrecision(3);
}

/** Returns a time in milliseconds in words. */
export function time(ms) {
  if (ms < 1) return `${Number((ms * 1000).toPrecision(3))} µs`;
  if (ms < 1000) return `${Number(ms.toPrecision(3))} ms`;
  return `${Number((ms / 1000).toPrecision(3))} s`;
}

function columns(values, title) {
  const greatest = Math.max(1, ...values);
  const step = WIDTH / values.length;
  const room = HEIGHT - FOOT - 14;
  return values.map((value, at) => {
    const height = value === 0 ? 0 : Math.max(1.5, (value / greatest) * room);
    const place = { x: at * step + 0.5, y: HEIGHT - FOOT - height, width: Math.max(1, step - 1) };
    const column = svg("rect", { ...place, height, class: "column" });
    column.append(svg("title", {}, title(value, at)));
    return column;
  });
}

function picture(label, ...parts) {
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label };
  const y = HEIGHT - FOOT;
  return svg("svg", box, svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y, class: "axis" }), ...parts);
}

const note = (x, anchor, text) => svg("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, text);

/** Draws how often something happened in each second. */
export function rate({ name, total, per_second }) {
  const latest = per_second.at(-1) ?? 0;
  const greatest = Math.max(0, ...per_second);
  const label = `${name}: ${latest} in the last second, at most ${greatest} in the last minute`;
  const bars = columns(per_second, (value, at) => `${value}, ${per_second.length - at} s ago`);
  bars.at(-1)?.classList.add("latest");
  const caption = [el("strong", {}, name), el("span", {}, `${short(latest)}/s`)];
  const sum = el("span", { class: "soft" }, `${short(total)} in all`);
  const scale = svg("text", { x: 0, y: 10 }, short(greatest));
  const foot = [note(0, "start", `${per_second.length} s ago`), note(WIDTH, "end", "now")];
  return el(
    "figure",
    {},
    picture(label, ...bars, scale, ...foot),
    el("figcaption", {}, caption, sum),
  );
}

/** Draws how long something took. */
export function histogram({ name, count, buckets, quantiles }) {
  const used = trimmed(buckets);
  const figures = quantiles
    ? `half within ${time(quantiles.p50_ms)}, 95 % within ${time(quantiles.p95_ms)}, 99 % within ${time(quantiles.p99_ms)}`
    : "nothing measured yet";
  const bars = columns(
    used.map((bucket) => bucket.count),
    (value, at) => `${value}: ${bound(used, at)}`,
  );
  const marks = quantiles ? quantileMarks(used, quantiles) : [];
  const every = Math.max(1, Math.ceil(used.length / 7));
  const labels = used.map((bucket, at) => {
    const x = ((at + 0.5) * WIDTH) / used.length;
    return at % every === 0 && bucket.at_most_ms !== null
      ? note(x, "middle", time(bucket.at_most_ms))
      : null;
  });
  const shown = picture(`${name}: ${figures}`, ...bars, ...marks, ...labels.filter(Boolean));
  const caption = [
    el("strong", {}, name),
    el("span", { class: "soft" }, `${short(count)} times; ${figures}`),
  ];
  return el("figure", {}, shown, el("figcaption", {}, caption));
}

/** Leaves out the empty buckets at both ends, but for one. */
function trimmed(buckets) {
  const first = buckets.findIndex(({ count }) => 0 < count);
  const last = buckets.findLastIndex(({ count }) => 0 < count);
  if (first === -1) return buckets.slice(0, 8);
  return buckets.slice(
    Math.max(0, first - 1),
    Math.min(buckets.length, Math.max(last + 2, first + 6)),
  );
}

function bound(buckets, at) {
  const to = buckets[at].at_most_ms;
  return to === null
    ? `more than ${time(buckets[at - 1]?.at_most_ms ?? 0)}`
    : `at most ${time(to)}`;
}

function quantileMarks(buckets, quantiles) {
  const all = [
    ["p50", quantiles.p50_ms],
    ["p95", quantiles.p95_ms],
    ["p99", quantiles.p99_ms],
  ];
  return all.flatMap(([name, ms], row) => {
    const found = buckets.findIndex(({ at_most_ms }) => at_most_ms === null || ms <= at_most_ms);
    const at = found === -1 ? buckets.length - 1 : found;
    const from = buckets[at - 1]?.at_most_ms ?? 0;
    const to = buckets[at].at_most_ms ?? Math.max(ms, from);
    const part = to === from ? 0.5 : Math.min(1, Math.max(0, (ms - from) / (to - from)));
    const x = ((at + part) * WIDTH) / buckets.length;
    const isRight = x > WIDTH - 60;
    return [
      svg("line", { x1: x, x2: x, y1: 2, y2: HEIGHT - FOOT, class: "mark" }),
      svg(
        "text",
        {
          x: isRight ? x - 3 : x + 3,
          y: 11 + row * 12,
          "text-anchor": isRight ? "end" : "start",
          class: "mark-name",
        },
        name,
      ),
    ];
  });
}
