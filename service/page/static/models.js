// Which of the served models the page is about: the default one, until another is chosen, here or in the address.
import { get } from "./api.js";
import { $, fill, h } from "./dom.js";
import { store } from "./store.js";

const named = ({ model, version }) => `${model}, version ${version}`;
const same = (one, other) => one.model === other.model && one.version === other.version;

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
  const { models } = await get("traffic");
  store.set("served", models.map(({ model, version }) => ({ model, version })));
  showChoice();
}

export function showChoice() {
  const [served, now] = [store.get("served"), store.get("model")];
  const choice = $("models");
  choice.hidden = served.length < 2;
  if (choice.hidden) return;
  const select = choice.querySelector("select");
  fill(select, served.map((each) => h("option", { value: JSON.stringify(each), selected: now && same(each, now) }, named(each))));
  select.onchange = () => choose(JSON.parse(select.value));
}

export function others(element) {
  const now = store.get("model");
  const rest = store.get("served").filter((each) => !same(each, now));
  element.hidden = rest.length === 0;
  const links = rest.map((each, i) => [i ? ", " : "", h("button", { type: "button", class: "link", onclick: () => choose(each) }, named(each))]);
  fill(element, "Also served: ", links, ".");
}
