// The server's inside: health with ages, the machine of all rooms with live counts, games, alerts.

import { time } from "./charts.js";
import { machine } from "./diagram.js";
import { byId, draw, el } from "/dom.js";

const HEALTH = { up: "good", degraded: "warn", down: "bad" };

/** Draws what `GET /api/observed` says. */
export function showObserved(observed) {
  const { health, unready, diagram, games, alerts, past_alerts: past, stream } = observed;
  draw(byId("checks"), [coarse(health), unready], () => checks(health, unready));
  draw(byId("machine"), diagram, () => machine(diagram));
  draw(byId("games"), [games, stream.published], () => figures(games, stream));
  draw(byId("alerts"), [alerts, past].map(coarseAlerts), () => alertLists(alerts, past));
}

/** What is drawn anew only when it changes by what can be seen. */
function coarse({ checks: all }) {
  const seconds = (age) => Math.floor(age / 1000);
  return all.map((check) => [check.name, check.status, check.detail, seconds(check.age_ms)]);
}

function coarseAlerts(alerts) {
  return alerts.map(({ rule, raised_ms_ago: ago }) => [rule, Math.floor(ago / 5000)]);
}

function checks({ checks: all }, unready) {
  const head = ["Check", "State", "Why", "Looked", "Took", "Since"];
  const header = head.map((text) => el("th", { scope: "col", class: "left" }, text));
  const rows = all.map((check) => {
    const { name, status, detail, age_ms: age, duration_ms: duration, changes } = check;
    const since = changes.length ? time(changes[0].age_ms) : "–";
    const state = el("span", { class: `dot ${HEALTH[status]}` }, status);
    const cells = [state, detail || "–", `${time(age)} ago`, time(duration), since];
    return el(
      "tr",
      { "data-check": name, "data-status": status },
      el("th", { scope: "row" }, name.replaceAll("_", " ")),
      cells.map((cell) => el("td", { class: "left" }, cell)),
    );
  });
  const table = { "aria-labelledby": "checks-title" };
  return [
    unready ? el("p", { class: "bad" }, `not ready: ${unready}`) : null,
    el("table", table, el("thead", {}, el("tr", {}, header)), el("tbody", {}, rows)),
  ];
}

function figures(games, stream) {
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const all = [
    ["Active games", games.active],
    ["Started", games.started],
    ["Played to the end", games.completed],
    ["Given up", games.abandoned],
    ["Games an hour", games.games_per_hour.toFixed(1)],
    ["Minutes a game", games.average_minutes.toFixed(1)],
    ["People win", percent(games.people.rate)],
    ["Bots win", percent(games.bots.rate)],
    ["Live events", stream.published],
  ];
  return all.map(([name, value]) =>
    el("dl", { class: "total" }, el("dt", {}, name), el("dd", {}, String(value))),
  );
}

function alertLists(alerts, past) {
  if (alerts.length + past.length === 0) return el("p", {}, "Nothing was raised.");
  const item = (alert, isOver) =>
    el(
      "li",
      { class: isOver ? "soft" : alert.severity },
      `${alert.severity}: ${alert.rule}, ${alert.message} `,
      isOver ? `(over ${time(alert.over_ms_ago)} ago)` : `(for ${time(alert.raised_ms_ago)})`,
    );
  return el(
    "ul",
    {},
    alerts.map((alert) => item(alert, false)),
    past.map((alert) => item(alert, true)),
  );
}
