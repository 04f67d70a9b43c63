// Which of the served models the page is about: the default one, until another is chosen, here or in the address.
import { addressed, get } from "./api.js";
import { $, h, refill } from "./dom.js";
import { store } from "./store.js";

const EVERY = 30_000; // milliseconds after which another model may have been loaded beside this one
let read = 0; // when that was last asked

const named = ({ model, version }) => `${model}, version ${version}`;
const same = (one, other) => one.model === other.model && one.version === other.version;
// an address may name a model, a version, both or neither
const fits = (each, { model, version }) => (!model || each.model === model) && (!version || each.version === version);

export function readAddress() {
  const asked = new URLSearchParams(location.search);
  const chosen = ["model", "version"].filter((name) => asked.get(name)).map((name) => [name, asked.get(name)]);
  store.set("chosen", Object.fromEntries(chosen));
}

function choose({ model, version }) {
  const address = new URL(location);
  address.searchParams.set("model", model);
  address.searchParams.set("version", version);
  history.replaceState(null, "", address);
  store.set("chosen", { model, version });
}

// what is served may change while the page is open
export async function readModels() {
  read = Date.now();
  const { models } = await get("traffic");
  store.set("served", models.map(({ model, version }) => ({ model, version })));
  showChoice();
}

export function showChoice() {
  const [served, mine, now] = [store.get("served"), store.get("chosen"), store.get("model")];
  const fitting = served.filter((each) => fits(each, mine));
  const choice = $("models");
  choice.hidden = served.length < 2 && fitting.length === served.length; // one that does not fit can be chosen
  if (choice.hidden) return;
  const select = choice.querySelector("select");
  refill(select, served.map((each) => h("option", { value: JSON.stringify(each) }, named(each))));
  const shown = fitting.length === 1 ? fitting[0] : fitting.find((each) => now && same(each, now));
  const value = shown ? JSON.stringify(shown) : ""; // nothing, where what was chosen is not served
  if (select.value !== value) select.value = value;
  select.onchange = () => choose(JSON.parse(select.value));
}

export async function readModel() {
  const mine = store.get("chosen");
  const model = await get(addressed("model", { name: mine.model, version: mine.version }));
  if (mine !== store.get("chosen")) return; // another one was chosen meanwhile
  const told = ({ model: name, version, layers, input_log: log }) => JSON.stringify([name, version, layers, log]);
  const before = store.get("model");
  if (!before || told(before) !== told(model)) store.set("model", model);
  showChoice();
  const which = $("models").hidden ? `${model.model}, version ${model.version}, ` : "";
  $("served").textContent = `${which}${model.layers.length} norms, on ${model.provider.replace("ExecutionProvider", "")}`;
}

// what is served may be swapped while the page is open: then summaries are of another model
export async function keepUp(summary) {
  if (same(summary, store.get("model")) && Date.now() - read < EVERY) return;
  try {
    await readModels();
    await readModel();
  } catch { /* the stream says what is wrong */ }
}

const chooseThis = (event) => choose(JSON.parse(event.currentTarget.value));

export function others(element) {
  const now = store.get("model");
  const rest = store.get("served").filter((each) => !now || !same(each, now));
  element.hidden = rest.length === 0;
  const links = rest.map((each, i) => [i ? ", " : "", h("button", { type: "button", class: "link", value: JSON.stringify(each), onclick: chooseThis }, named(each))]);
  refill(element, "Also served: ", links, ".");
}
