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
