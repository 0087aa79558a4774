// What the pieces are and what they are when played: the client's own copy of the rules, used to
// explain and to warn. The server decides.

const KINDS = [
  { kind: "general", red: "帥", black: "將", points: 14, ids: [0] },
  { kind: "advisor", red: "仕", black: "士", points: 12, ids: [1, 2] },
  { kind: "elephant", red: "相", black: "象", points: 10, ids: [3, 4] },
  { kind: "chariot", red: "俥", black: "車", points: 8, ids: [5, 6] },
  { kind: "horse", red: "傌", black: "馬", points: 6, ids: [7, 8] },
  { kind: "cannon", red: "炮", black: "炮", points: 4, ids: [9, 10] },
  { kind: "soldier", red: "兵", black: "卒", points: 2, ids: [11, 12, 13, 14, 15] },
];

const STRAIGHTS = [
  ["general", "advisor", "elephant"],
  ["chariot", "horse", "cannon"],
];

const PLAY_NAMES = {
  single: "single",
  pair: "pair",
  three_soldiers: "three soldiers",
  straight: "straight",
  four_soldiers: "four soldiers",
  extended_straight: "extended straight",
  extended_straight_of_five: "extended straight of five",
  five_soldiers: "five soldiers",
  double_straight: "double straight",
};

export const HAND = 8;

const PIECES = Array.from({ length: 32 }, (_, id) => {
  const colour = id < 16 ? "red" : "black";
  const { kind, points, [colour]: glyph } = KINDS.find(({ ids }) => ids.includes(id % 16));
  return { id, colour, kind, glyph, points: colour === "red" ? points : points - 1 };
});

/** Returns what the piece with this id is. */
export function piece(id) {
  return PIECES[id];
}

/** Returns a piece in words: "red chariot". */
export function pieceName(id) {
  return `${PIECES[id].colour} ${PIECES[id].kind}`;
}

/** Returns a type of play in words. */
export function playName(type) {
  return PLAY_NAMES[type] ?? type.replaceAll("_", " ");
}

/** Returns what the pieces are as a play, `{ type, points }`, or null if they are no valid one. */
export function classify(ids) {
  const pieces = ids.map(piece);
  const sum = pieces.reduce((points, one) => points + one.points, 0);
  if (ids.length === 1) return { type: "single", points: sum };
  if (ids.length === 0 || new Set(pieces.map(({ colour }) => colour)).size !== 1) return null;
  const kinds = new Map();
  for (const { kind, points } of pieces) {
    kinds.set(kind, { points, count: (kinds.get(kind)?.count ?? 0) + 1 });
  }
  if (kinds.size === 1) {
    const type = alike(pieces[0].kind, ids.length);
    return type && { type, points: sum };
  }
  const type = straight(kinds, ids.length);
  if (!type) return null;
  if (!type.startsWith("extended")) return { type, points: sum };
  return { type, points: [...kinds.values()].reduce((points, one) => points + one.points, 0) };
}

function alike(kind, count) {
  if (count === 2) return "pair";
  if (kind !== "soldier") return null;
  return { 3: "three_soldiers", 4: "four_soldiers", 5: "five_soldiers" }[count] ?? null;
}

function straight(kinds, count) {
  const isStraight = STRAIGHTS.some((three) => three.every((kind) => kinds.has(kind)));
  const atMostTwo = [...kinds.values()].every((one) => one.count <= 2);
  if (kinds.size !== 3 || !isStraight || !atMostTwo) return null;
  const types = ["straight", "extended_straight", "extended_straight_of_five", "double_straight"];
  return types[count - 3] ?? null;
}

/** Returns what a seat may declare after `declared` (by seat, null where nobody has). */
export function allowedDeclarations(zeros, declared) {
  const made = declared.filter((piles) => piles !== null);
  const sum = made.reduce((all, piles) => all + piles, 0);
  const isAllowed = (piles) =>
    !(piles === 0 && 2 <= zeros) && !(made.length === 3 && sum + piles === HAND);
  return Array.from({ length: HAND + 1 }, (_, piles) => piles).filter(isAllowed);
}
