// Who has played best: a table in the lobby, asked for when the lobby is seen and when another time is chosen.

import { byId, draw, el } from "./dom.js";

const NOBODY = "Nobody has finished a game in this time yet.";

/** Keeps the table of the best players as long as the lobby is on the page. */
export function setUpBest() {
  const over = byId("best-over");
  over.addEventListener("change", show);
  new IntersectionObserver(([entry]) => entry.isIntersecting && show()).observe(byId("best"));
}

async function show() {
  const over = byId("best-over").value;
  const slot = byId("best");
  try {
    const answer = await fetch(`/api/leaderboard?by=wins&over=${over}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    const { rows } = await answer.json();
    // Another time may have been chosen meanwhile.
    if (byId("best-over").value === over) draw(slot, { over, rows }, () => table(rows));
  } catch {
    draw(slot, "lost", () => el("p", { class: "quiet" }, "The list cannot be read at the moment."));
  }
}

function table(rows) {
  if (rows.length === 0) return el("p", { class: "quiet" }, NOBODY);
  const head = ["Player", "Won", "Played", "Points"].map((name) => el("th", { scope: "col" }, name));
  const row = ({ name, won, played, total_score: points }) =>
    el("tr", {}, el("th", { scope: "row" }, name), ...[won, played, points].map((n) => el("td", {}, `${n}`)));
  return el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows.map(row)));
}
