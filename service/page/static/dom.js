// Elements from plain calls. Data only ever become text nodes and attributes, never markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// The same as fill, for what is said again and again: only what differs is touched, so that focus, selection, scrolling and a
// click that is held stay. Listeners stay those of before: they may depend on nothing but their element.
export function refill(element, ...children) {
  liken(element, fill(element.cloneNode(false), ...children));
}

function liken(old, fresh) {
  const pairs = [...fresh.childNodes].map((child, i) => [old.childNodes[i], child]);
  while (old.childNodes.length > pairs.length) old.lastChild.remove();
  for (const [there, child] of pairs) {
    if (!there) old.append(child);
    else if (there.nodeName !== child.nodeName) there.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) { if (there.data !== child.data) there.data = child.data; }
    else { likenAttributes(there, child); liken(there, child); }
  }
}

function likenAttributes(old, fresh) {
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

// names may be broken after their dots
export const breakable = (text) => text.split(".").map((part, i) => [i ? [".", h("wbr")] : null, part]);

export const $ = (id) => document.getElementById(id);

export function table(head, rows, attributes = {}) {
  return h(
    "table", attributes,
    h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))))),
  );
}

const MARKS = { ok: "✓", drift: "▲", mix_shift: "◆", insufficient_data: "…" };
export const STATE_WORDS = { ok: "ok", drift: "drifting", mix_shift: "mix shift", insufficient_data: "no data" };
export const markOf = (state) => MARKS[state] ?? "…";

export function stateOf(state) {
  return h("span", { class: "state", "data-state": state }, h("span", { "aria-hidden": "true" }, markOf(state)), STATE_WORDS[state]);
}
