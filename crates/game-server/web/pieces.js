// How a piece looks: a round token with its character.

import { el, svg } from "./dom.js";
import { GLYPH_BOX, GLYPHS } from "./glyphs.js";
import { piece, pieceName } from "./rules.js";

/** Draws a token; what it is must be said beside it. */
export function token(id) {
  const { colour, glyph } = piece(id);
  const picture = svg("svg", { viewBox: GLYPH_BOX, "aria-hidden": "true", focusable: "false" });
  picture.append(svg("path", { d: GLYPHS[glyph] }));
  return el("span", { class: `token ${colour}` }, picture);
}

/** Draws a list of pieces that lie on the table. */
export function laid(ids, label) {
  const items = ids.map((id) => {
    const { points } = piece(id);
    const name = `${pieceName(id)}, ${points} points`;
    return el("li", { title: name }, token(id), el("span", { class: "hidden" }, name));
  });
  return el("ul", { class: "laid", "aria-label": label }, items);
}

/** Draws the table of all kinds of pieces for the rules. */
export function pieceTable() {
  const kinds = [0, 1, 3, 5, 7, 9, 11];
  const head = ["Piece", "Red", "Points", "Black", "Points"];
  const rows = kinds.map((id) => {
    const { kind, points } = piece(id);
    const cells = [token(id), points, token(id + 16), piece(id + 16).points];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, kind),
      cells.map((cell) => el("td", {}, cell)),
    );
  });
  const header = el(
    "tr",
    {},
    head.map((text) => el("th", { scope: "col" }, text)),
  );
  return el("table", { "aria-label": "Pieces" }, el("thead", {}, header), el("tbody", {}, rows));
}
