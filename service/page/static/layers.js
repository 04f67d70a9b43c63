// The network, and one of its norms in detail.
import { about, get } from "./api.js";
import { $, fill, h, refill } from "./dom.js";
import { layerCard } from "./layer.js";
import { others } from "./models.js";
import { drawNetwork } from "./network.js";
import { store } from "./store.js";

const EVERY = 6000; // milliseconds
const MANY = 12; // norms, beyond which the drawing scrolls beside the details

let shown = false;
let chosen = "";
let asked = null;
let seen = ""; // the norm that was scrolled to
let placements = {};
const list = h("ol", { class: "network" });
const unseen = h("p", { class: "soft small", hidden: true });
const beside = h("p", { class: "soft small", hidden: true });
const title = h("h2");
const left = h("div", { class: "card" }, title, h("p", { class: "soft small" }, "Score of each norm, and its limit. Choose one."), list, unseen, beside);
const card = layerCard();

function build() {
  fill($("view-layers"), h("div", { class: "layers" }, left, card.element));
}

export const layersView = {
  show(visible, rest) {
    shown = visible;
    if (!visible) return;
    if (!$("view-layers").firstChild) build();
    if (rest && rest !== chosen) { chosen = rest; asked = null; }
    update();
    if (rest && innerWidth < 900) card.element.scrollIntoView(); // it is below the network there
  },
};

store.on("summary", () => shown && update());
store.on("window", () => { asked = null; });
store.on("model", () => { placements = {}; asked = null; });
store.on("chosen", () => { asked = null; });

// within the drawing, where that scrolls; never the page
function showChosen() {
  const node = list.querySelector("[aria-current]")?.closest("li");
  if (!node || left.scrollHeight <= left.clientHeight) return;
  const above = node.offsetTop - left.scrollTop;
  if (above < 0 || above + node.offsetHeight > left.clientHeight) left.scrollTop = node.offsetTop - left.clientHeight / 2;
}

function tellKind({ inputs }) {
  const what = inputs.kind === "tensors" ? "The network" : "The encoder";
  refill(title, what);
  list.setAttribute("aria-label", `${what}, from its input to its output`);
}

function tellUnseen({ unobserved = [] }) {
  unseen.hidden = unobserved.length === 0;
  refill(unseen, `Without statistics: ${unobserved.map(({ name, reason }) => `${name} (${reason})`).join("; ")}.`);
}

function layerNow(summary) {
  const names = summary.layers.map((layer) => layer.name);
  if (names.includes(chosen)) return chosen;
  return names.includes(summary.verdict.first_layer) ? summary.verdict.first_layer : names[0];
}

function update() {
  const summary = store.get("summary");
  if (!summary) return;
  const name = layerNow(summary);
  left.classList.toggle("long", summary.layers.length > MANY);
  tellKind(store.get("model"));
  tellUnseen(store.get("model"));
  others(beside);
  drawNetwork(list, summary, placements, name);
  if (name !== seen) { seen = name; showChosen(); }
  if (!asked || asked.name !== name || asked.window !== store.get("window") || Date.now() - asked.at > EVERY) read(name);
}

async function read(name) {
  const window = store.get("window");
  const mine = asked = { name, window, at: Date.now() };
  try {
    if (!Object.hasOwn(placements, name)) await readPlacements();
    const [layer, history] = await Promise.all([get(about(`norm-stats/${encodeURIComponent(name)}`, { window })), get(about("norm-stats/history", { window }))]);
    if (asked === mine) card.show(layer, history);
  } catch (error) {
    if (asked !== mine) return; // another layer, window or model is asked for
    asked = null;
    card.fail(error.message);
  }
}

async function readPlacements() {
  const { layers } = await get(about("norm-stats"));
  placements = Object.fromEntries(layers.map((layer) => [layer.name, layer.placement]));
  drawNetwork(list, store.get("summary"), placements, asked?.name);
}
