// Where traffic departs, and when: every layer's score, and a map of layers over time.
import { about, get } from "./api.js";
import { Chart, axisStyle, colour, limitLine, tooltip } from "./charts.js";
import { $, STATE_WORDS, fill, h, markOf, refill } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { store } from "./store.js";
import { calledOf, count, facts, num, shortName } from "./words.js";

const ROW = 18; // pixels of a line
const WORD = 70; // pixels of the longest state beside a bar
const GAP = 5; // pixels before it
const EVERY = 10_000; // milliseconds between two looks at the history: as long as its shortest slice

const BLIND = "This model's baseline cannot judge its traffic.";

let shown = false;
let asked = null; // the window that the map was asked for, and when
const bars = new Chart("Each layer's score, in units of the limit above which it departs", 250, describeBars);
const map = heatmap("Slice by slice: how far the input, each layer and the output departed");
const told = h("ul", { class: "facts" });
const moved = h("div", { class: "moved" });
const few = h("p", { class: "empty", hidden: true });
const none = h("p", { class: "empty", hidden: true });
const trouble = h("p", { class: "error", hidden: true });

function build() {
  const where = h("div", { class: "card" }, h("h2", {}, "Where"), few, bars.element, told, moved);
  const when = h("div", { class: "card" }, h("h2", {}, "When"), trouble, none, map.element);
  $("view-verdict").append(h("div", { class: "grid" }, when, where));
}

export const verdictView = {
  show(visible) {
    shown = visible;
    if (!visible) return;
    if (!$("view-verdict").firstChild) build();
    update();
  },
};

store.on("summary", () => shown && update());
store.on("window", () => { asked = null; if (shown) update(); });
store.on("chosen", () => { asked = null; });

function update() {
  const summary = store.get("summary");
  if (!summary) return;
  if (summary.asked === store.get("window")) {
    const judged = linesOf(summary).some((line) => line.threshold !== null);
    bars.element.hidden = !judged;
    few.hidden = judged;
    refill(few, "input" in summary ? `Scores are shown from ${summary.needed} requests on; this window has ${count(summary.window.requests)}.` : BLIND);
    if (judged) bars.draw(summary);
    refill(moved, features(summary.verdict));
    refill(told, facts(summary).map((fact) => h("li", {}, fact)));
  }
  if (!asked || asked.window !== store.get("window") || Date.now() - asked.at > EVERY) readHistory();
}

async function readHistory() {
  const mine = asked = { window: store.get("window"), at: Date.now() };
  try {
    const history = await get(about("norm-stats/history", { window: mine.window }));
    if (!shown || asked !== mine) return;
    const empty = history.slices.length === 0;
    none.hidden = !empty;
    fill(none, "input" in store.get("summary") ? ["No request in this window yet. ", h("a", { href: "#try" }, "Ask something"), ", and it appears here within seconds."] : BLIND);
    map.element.hidden = empty;
    if (!empty) map.draw(history);
    trouble.hidden = true;
  } catch (error) {
    if (asked !== mine) return; // another window or model is asked for
    asked = null;
    trouble.hidden = false;
    trouble.textContent = error.message;
  }
}

function features({ features: list, first_layer: layer }) {
  if (!list.length) return null;
  return [
    h("h3", {}, `The features that moved most at ${calledOf(layer)}`),
    h("ul", {}, list.slice(0, 5).map((each) =>
      h("li", {}, `feature ${each.feature}: ${num(each.baseline)} in the baseline, ${num(each.live)} now, by ${num(each.shift)} σ`))),
  ];
}

export const linesOf = (summary) => [summary.input, ...summary.layers, summary.output, summary.all_layers, summary.unlikeness].filter(Boolean);

function describeBars(summary, width) {
  const lines = linesOf(summary);
  const ratio = (line) => (line.threshold ? Math.max(0, line.score / line.threshold) : null);
  const most = Math.max(1.4, ...lines.map((line) => ratio(line) ?? 0));
  const [left, right] = width < 480 ? [132, 74] : [160, 110];
  const wide = (width - left - right) / most; // pixels from 0 to the limit
  const beside = (line) => { // the word begins behind the limit's line, where that would cross it
    const before = wide * (1 - ratio(line));
    return before > 0 && before < WORD ? before + GAP : GAP;
  };
  const option = {
    grid: { left, right, top: 22, bottom: 24, outerBoundsMode: "none" },
    tooltip: tooltip({ trigger: "axis", axisPointer: { type: "none" }, formatter: ([point]) => sentence(lines[point.dataIndex]) }),
    xAxis: { type: "value", min: 0, max: most, splitNumber: width < 480 ? 3 : 6, ...axisStyle({ axisLabel: { formatter: (value) => num(value, 2), showMaxLabel: false }, splitLine: { showMaxLine: false } }) },
    yAxis: { type: "category", inverse: true, data: lines.map((line) => shortName(line.name)), ...axisStyle({ axisLabel: { color: colour("ink"), hideOverlap: false, interval: 0 } }), splitLine: { show: false } },
    series: [{
      type: "bar",
      barMaxWidth: 16,
      data: lines.map((line) => ({
        value: ratio(line),
        itemStyle: { color: colour(line.state === "drift" ? "drift" : "live"), borderRadius: [0, 4, 4, 0] },
        label: { distance: beside(line) },
      })),
      label: { show: true, position: "right", color: colour("ink"), fontSize: 12, formatter: ({ dataIndex }) => `${markOf(lines[dataIndex].state)} ${STATE_WORDS[lines[dataIndex].state]}` },
      markLine: limitLine("x", 1, "limit"),
    }],
  };
  const rows = lines.map((line) => [line.name, STATE_WORDS[line.state], num(line.score), num(line.threshold), num(line.effect)]);
  const height = Math.max(250, 46 + ROW * lines.length);
  return { option, height, head: ["layer", "state", "score", "limit", "effect, σ of single requests"], rows };
}

function sentence(line) {
  if (line.threshold === null) return `${line.name}: too few requests to judge`;
  return `${line.name}: ${STATE_WORDS[line.state]}\nscore ${num(line.score)}, limit ${num(line.threshold)}\neffect ${num(line.effect)} σ of single requests`;
}
