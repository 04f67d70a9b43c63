// The verdict, always on top: one sentence, and what to do about it.
import { $, breakable, h, markOf, refill } from "./dom.js";
import { store } from "./store.js";
import { advice, detail, headline, overflow } from "./words.js";

let said = "";

export function showBanner(summary) {
  const banner = $("banner");
  const { state, since, first_layer } = summary.verdict;
  const alarm = overflow(summary);
  const next = advice(summary, store.get("model")?.task);
  banner.dataset.state = alarm ? "drift" : state;
  banner.querySelector(".mark").textContent = alarm ? "!" : markOf(state);
  refill(banner.querySelector("h1"), withNames(alarm || headline(summary)));
  refill(banner.querySelector(".detail"), withNames(detail(summary)));
  refill(banner.querySelector(".advice"), next, state === "drift" ? hints(summary) : null);
  // screen readers hear of a change of state, not of every request
  const news = [summary.asked, state, since, first_layer, alarm].join();
  if (news !== said) $("spoken").textContent = `${alarm || headline(summary)}. ${next}`;
  said = news;
}

// why there is no verdict now; what else is shown is of before
export function showTrouble(sentence) {
  const banner = $("banner");
  banner.dataset.state = "loading";
  banner.querySelector(".mark").textContent = "!";
  refill(banner.querySelector("h1"), "No verdict now");
  refill(banner.querySelector(".detail"), sentence);
  refill(banner.querySelector(".advice"));
  if (said !== sentence) $("spoken").textContent = `No verdict now. ${sentence}`;
  said = sentence;
}

// a layer's name stays in one line where it fits, and is else broken after its dots
function withNames(text) {
  return text.split(/(\S+\.\S+)/).map((part, i) => (i % 2 ? h("span", { class: "whole" }, breakable(part)) : part));
}

function hints(summary) {
  const layer = summary.verdict.first_layer;
  const norm = summary.layers.some((each) => each.name === layer);
  return [
    " ",
    norm ? h("a", { href: `#layers/${encodeURIComponent(layer)}` }, "See that layer") : h("a", { href: "#layers" }, "See all layers"),
    ", or ask one of the requests again under ",
    h("a", { href: "#try" }, "Try it"),
    ".",
  ];
}
