// Starts the page: what is served, which view, which window, which theme.
import { ask, keyed, useKey } from "./api.js";
import { showBanner, showTrouble } from "./banner.js";
import { redrawAll } from "./charts.js";
import { $, fill, h } from "./dom.js";
import { layersView } from "./layers.js";
import { keepUp, readAddress, readModel, readModels } from "./models.js";
import { store } from "./store.js";
import { follow, stop, tell } from "./stream.js";
import { trafficView } from "./traffic.js";
import { tryView } from "./try.js";
import { verdictView } from "./verdict.js";
import { WINDOWS } from "./words.js";

const views = { verdict: verdictView, try: tryView, layers: layersView, traffic: trafficView };
const TITLES = { verdict: "Verdict", try: "Try it", layers: "Layers", traffic: "Traffic" };

// which view, and what of it; an address that is cut off in a letter is taken as it is
function addressedView() {
  const hash = location.hash.slice(1);
  try {
    return decodeURIComponent(hash).split("/");
  } catch {
    return hash.split("/");
  }
}

function route() {
  const [name, ...rest] = addressedView();
  const shown = Object.hasOwn(views, name) ? name : "verdict";
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
  if (asked && Object.hasOwn(WINDOWS, asked)) store.set("window", asked);
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

let starting = null; // of several starts the last one counts
let again; // the timer of the next try

async function start() {
  const mine = starting = {};
  clearTimeout(again);
  stop();
  try {
    await readModels();
    await readModel();
  } catch (error) {
    if (mine !== starting) return;
    tell(error);
    if (error.status !== 401) again = setTimeout(start, 2000);
    return;
  }
  if (mine === starting) follow();
}

const PULSES = {
  connecting: "connecting", live: "live", locked: "waiting for an API key",
  lost: "the service does not answer, trying again", refused: "the service refuses, trying again",
};

function listen() {
  store.on("connection", (state) => {
    $("pulse").textContent = PULSES[state];
    document.body.dataset.connection = state;
    $("pulse").dataset.state = state === "refused" ? "lost" : state;
    if (state === "live") readModels().then(readModel).catch(() => {}); // it may be another one after a restart
  });
  store.on("trouble", (sentence) => {
    showTrouble(sentence);
    readModels().catch(() => {}); // another one may be chosen
  });
  store.on("summary", () => { document.body.dataset.ready = ""; });
}

function askForKey() {
  const [form, text, wrong] = [$("key"), $("key-text"), $("key-wrong")];
  let given = false; // a key, and not yet answered
  store.on("connection", (state) => { if (state === "live") given = false; });
  store.on("refused", (refused) => {
    form.hidden = refused === null;
    wrong.textContent = refused?.wrong ? "This key is not accepted." : "";
    wrong.hidden = !refused?.wrong;
    if (refused && given) text.focus();
    if (refused) given = false;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    given = true;
    useKey(text.value);
    text.value = "";
    start();
  });
}

// a link shows no key: the page asks first, and hands the numbers over where it took a key to get them
function openMetrics(event) {
  const link = event.currentTarget;
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // elsewhere
  event.preventDefault();
  ask(link.href).then(async (response) => {
    if (!keyed()) return location.assign(link.href);
    const address = URL.createObjectURL(await response.blob());
    h("a", { href: address, download: "metrics.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }).catch((error) => error.status !== 401 && location.assign(link.href));
}

function skip(event) {
  event.preventDefault(); // the address keeps the view
  $("main").focus();
}

chooseTheme();
chooseWindows();
readAddress();
listen();
askForKey();
store.on("chosen", start);
store.on("summary", showBanner);
store.on("summary", keepUp);
$("metrics").addEventListener("click", openMetrics);
document.querySelector(".skip").addEventListener("click", skip);
addEventListener("hashchange", route);
route();
start();
