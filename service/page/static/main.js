// Starts the page: what is served, which view, which window, which theme.
import { addressed, get, useKey } from "./api.js";
import { showBanner } from "./banner.js";
import { redrawAll } from "./charts.js";
import { $, fill, h } from "./dom.js";
import { layersView } from "./layers.js";
import { readAddress, readModels, showChoice } from "./models.js";
import { store } from "./store.js";
import { follow } from "./stream.js";
import { trafficView } from "./traffic.js";
import { tryView } from "./try.js";
import { verdictView } from "./verdict.js";
import { WINDOWS } from "./words.js";

const views = { verdict: verdictView, try: tryView, layers: layersView, traffic: trafficView };
const TITLES = { verdict: "Verdict", try: "Try it", layers: "Layers", traffic: "Traffic" };

function route() {
  const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
  const shown = name in views ? name : "verdict";
  for (const each of Object.keys(views)) $(`view-${each}`).hidden = each !== shown;
  for (const link of document.querySelectorAll(".tabs a")) {
    const here = link.hash === `#${shown}`;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[shown]} – AddNorm`;
  for (const each of Object.keys(views)) views[each].show(each === shown, rest.join("/"));
}

function chooseWindows() {
  const asked = new URLSearchParams(location.search).get("window");
  if (asked in WINDOWS) store.set("window", asked);
  const choices = Object.entries(WINDOWS).map(([name, words]) =>
    h("label", {},
      h("input", { type: "radio", name: "window", value: name, checked: name === store.get("window"), onchange: () => chooseWindow(name) }),
      h("span", {}, words)));
  $("windows").append(...choices);
}

function chooseWindow(name) {
  const address = new URL(location);
  address.searchParams.set("window", name);
  history.replaceState(null, "", address);
  store.set("window", name);
  follow();
}

function chooseTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = $("theme");
  const now = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
  const name = () => fill(button, now() === "dark" ? "Light" : "Dark", h("span", { class: "hidden" }, " theme"));
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("addnorm-theme", now()); } catch { /* for this visit only, then */ }
    name();
    redrawAll();
  });
  system.addEventListener("change", name);
  name();
}

async function readModel() {
  const { model: name, version } = store.get("chosen");
  const model = await get(addressed("model", { name, version }));
  const before = store.get("model");
  const same = before && JSON.stringify([before.model, before.version, before.layers]) === JSON.stringify([model.model, model.version, model.layers]);
  if (!same) store.set("model", model);
  showChoice();
  const which = $("models").hidden ? `${model.model}, version ${model.version}, ` : "";
  $("served").textContent = `${which}${model.layers.length} norms, on ${model.provider.replace("ExecutionProvider", "")}`;
}

async function start() {
  try {
    await readModels();
    await readModel();
  } catch (error) {
    store.set("connection", error.status ? "refused" : "lost");
    if (error.status === 404) $("served").textContent = error.message; // a model that the address names
    if (error.status !== 401) setTimeout(start, 2000);
    return;
  }
  follow();
}

function listen() {
  const words = { connecting: "connecting", live: "live", lost: "the service does not answer, trying again", refused: "the service refuses, trying again" };
  store.on("connection", (state) => {
    $("pulse").textContent = words[state];
    document.body.dataset.connection = state;
    $("pulse").dataset.state = state === "refused" ? "lost" : state;
    if (state === "live") readModels().then(readModel).catch(() => {}); // it may be another one after a restart
  });
  store.on("refused", (refused) => { $("key").hidden = refused === null; });
  $("key").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey($("key-text").value);
    $("key-text").value = "";
    start();
  });
  store.on("summary", () => { document.body.dataset.ready = ""; });
}

chooseTheme();
chooseWindows();
readAddress();
listen();
store.on("chosen", start);
store.on("summary", showBanner);
addEventListener("hashchange", route);
route();
start();
