// The few tools that the page is drawn with. Text goes in as text, never as HTML.

/** Creates an element; `on` holds listeners, other attributes are set as they are. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, ...rest } = attributes;
  for (const [name, value] of Object.entries(rest)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element of a picture. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const drawn = new WeakMap();

/**
 * Fills `slot` with what `build()` returns, but only if `model` has changed since the last time:
 * what has not changed keeps its focus, and screen readers do not read it again. If the focus was
 * inside, it goes to the new element with the same data-key, else to the one marked data-rest.
 */
export function draw(slot, model, build) {
  const text = JSON.stringify(model);
  if (drawn.get(slot) === text) return;
  drawn.set(slot, text);
  const focused = slot.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.dataset.key;
  slot.replaceChildren(...[build()].flat().filter(Boolean));
  if (focused === null) return;
  const again = key && slot.querySelector(`[data-key="${CSS.escape(key)}"]`);
  const place = again || slot.querySelector("[data-rest]") || slot.closest("[tabindex]");
  place?.focus();
}

/** Returns the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}
