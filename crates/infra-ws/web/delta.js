// Changes of a room's state: the part of JSON Patch (RFC 6902) that infra-ws speaks, and the hash
// that tells whether what came out is what the server has.

/** Returns a state with a patch applied, or undefined if it does not fit; `state` stays as it is. */
export function apply(state, patch) {
  // What was agreed on is JSON, so it can be copied as such.
  let result = structuredClone(state);
  for (const { op, path, value } of patch) {
    if (path === "") {
      if (op === "remove") return undefined;
      result = value;
      continue;
    }
    const steps = path.slice(1).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = steps.pop();
    const parent = steps.reduce(child, result);
    const change = Array.isArray(parent) ? changeList : changeObject;
    if (parent === null || typeof parent !== "object" || !change(parent, op, last, value)) return undefined;
  }
  return result;
}

function child(parent, name) {
  if (Array.isArray(parent)) return isIndex(name) ? parent[Number(name)] : undefined;
  return parent !== null && typeof parent === "object" && Object.hasOwn(parent, name) ? parent[name] : undefined;
}

function changeObject(object, op, name, value) {
  if (op !== "add" && !Object.hasOwn(object, name)) return false;
  if (op === "remove") delete object[name];
  // Not by assignment: `__proto__` is a name like any other.
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  return true;
}

function changeList(list, op, name, value) {
  const index = name === "-" ? list.length : isIndex(name) ? Number(name) : -1;
  const end = op === "add" ? list.length + 1 : list.length;
  if (index < 0 || end <= index) return false;
  if (op === "add") list.splice(index, 0, value);
  else if (op === "remove") list.splice(index, 1);
  else list[index] = value;
  return true;
}

/** As RFC 6901 writes it: no sign, no leading zero. */
function isIndex(name) {
  return /^(0|[1-9][0-9]*)$/.test(name);
}

/** Returns the canonical JSON of a value: no spaces, fields in the order of their names' bytes. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).sort(byBytes);
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

/** The order of UTF-8, which is that of code points and not that of JavaScript's own comparison. */
function byBytes(one, two) {
  const [left, right] = [[...one], [...two]];
  for (let place = 0; place < Math.min(left.length, right.length); place += 1) {
    const difference = left[place].codePointAt(0) - right[place].codePointAt(0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** Returns the SHA-256 of the canonical JSON, as 64 hexadecimal digits. */
export async function hash(value) {
  const bytes = new TextEncoder().encode(canonical(value));
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
