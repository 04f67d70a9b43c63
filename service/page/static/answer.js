// One answer: its top classes, where its time went, and how far it lay from the usual at every layer.
import { Chart, axisStyle, colour, tooltip } from "./charts.js";
import { fill, h } from "./dom.js";
import { calledOf, milliseconds, num, percent, read, shortName } from "./words.js";

const ODD = 3; // standard deviations of validation requests
const UNSURE = 99; // per cent of the baseline's requests that the model is surer of
const ROW = 20; // pixels of a layer, where there are many
const PHASES = ["parse", "tokenize", "queue", "infer", "serialize"];
const SERIES = { mean_z: "mean", variance_z: "variance" };

export function answerCard({ activation }) {
  const alone = activation === "sigmoid"; // a text may have several labels
  const tops = new Chart(alone ? "The labels with the highest scores; each is scored by itself, so they do not add up to 1" : "The most probable classes", 172, alone ? describeScores : describeTops);
  const times = new Chart("Where the time went, in milliseconds", 112, describeTimes);
  const path = new Chart("Distance from the average validation request, in its standard deviations, from the input down", 320, describePath);
  const said = h("div", { class: "answer", "aria-live": "polite" });
  const list = h("div", { class: "answers", role: "group", "aria-label": "Answers", hidden: true });
  const odd = h("p", { class: "small" });
  const empty = (text) => h("p", { class: "empty" }, text);
  const first = h("div", { class: "card" }, h("h2", {}, "Answer"), empty("Ask something, or choose an example."));
  const second = h("div", { class: "card" }, h("h2", {}, "Through the network"), empty("How unusual the request looks at each layer is drawn here."));
  const third = h("div", { class: "card last", hidden: true }, h("h2", {}, "Timing"), times.element);

  function choose(answer, index) {
    const prediction = answer.predictions[index];
    fill(said, h("p", { class: "label", "data-answer": prediction.label }, prediction.label.replaceAll("_", " ")),
      h("p", { class: "soft" }, `${alone ? `score ${num(prediction.score)}` : `${percent(prediction.score)} sure`}, ${read(prediction.tokens)}${prediction.truncated ? "; the rest was cut off" : ""}`));
    [...list.children].forEach((each, i) => each.setAttribute("aria-pressed", String(i === index)));
    fill(odd, oddity(prediction.norm_stats), sureness(prediction.percentile));
    tops.draw(prediction.top);
    path.draw(prediction.norm_stats);
  }

  function offer(asked, answer) {
    list.hidden = asked.length < 2;
    fill(list, list.hidden ? null : answer.predictions.map((each, i) =>
      h("button", { type: "button", onclick: () => choose(answer, i) },
        h("span", { class: "given" }, givenOf(asked[i], i)), h("span", { class: "got", title: each.label }, each.label))));
  }

  return {
    first, second, third,
    show(asked, { answer, phases, total }) {
      if (!said.isConnected) {
        fill(first, h("h2", {}, "Answer"), said, list, tops.element);
        fill(second, h("h2", {}, "Through the network"), odd, path.element);
        third.hidden = false;
      }
      offer(asked, answer);
      choose(answer, 0);
      times.draw({ phases, total });
    },
    redraw: () => [tops, times, path].forEach((chart) => chart.redraw()),
  };
}

function givenOf(asked, index) {
  if (typeof asked === "string") return asked;
  return typeof asked[0] === "string" ? asked.join(" / ") : `sequence ${index + 1}`;
}

const largest = (layer) => Math.max(Math.abs(layer.mean_z), Math.abs(layer.variance_z));

function oddity(layers) {
  const first = layers.find((layer) => largest(layer) > ODD);
  if (!first) return `As usual: at no layer further than ${ODD} σ from the average validation request.`;
  const which = Math.abs(first.mean_z) > Math.abs(first.variance_z) ? "mean" : "variance";
  return [h("strong", {}, `Looks odd, first at ${calledOf(first.name)}`), `: its ${which} lies ${num(largest(first), 2)}\u00a0σ from the average.`];
}

function sureness(percentile) {
  if (percentile === null || percentile === undefined) return null;
  const surer = `${num(percentile, 2)}\u00a0% of the baseline's requests`;
  return percentile > UNSURE ? ` The model is unusually unsure: it is surer of ${surer}.` : ` The model is surer of ${surer}.`;
}

const describeTops = (top, width) => describeTop(top, width, "probability", percent);
const describeScores = (top, width) => describeTop(top, width, "score", (score) => num(score));

function describeTop(top, width, name, show) {
  const option = {
    grid: { left: width < 420 ? 120 : 170, right: 64, top: 4, bottom: 4, outerBoundsMode: "none" },
    xAxis: { type: "value", min: 0, max: 1, show: false },
    yAxis: { type: "category", inverse: true, data: top.map((each) => each.label.replaceAll("_", " ")), ...axisStyle({ axisLabel: { color: colour("ink"), width: width < 420 ? 112 : 160, overflow: "truncate", hideOverlap: false, interval: 0 } }), axisLine: { show: false } },
    series: [{
      type: "bar", barMaxWidth: 17, showBackground: true, backgroundStyle: { color: colour("sunken"), borderRadius: 4 },
      data: top.map((each, i) => ({ value: each.score, itemStyle: { color: colour(i ? "usual" : "live"), borderRadius: 4 } })),
      label: { show: true, position: "right", color: colour("ink"), fontSize: 12, formatter: ({ value }) => show(value) },
    }],
  };
  return { option, head: ["class", name], rows: top.map((each) => [each.label, show(each.score, 2)]) };
}

function describeTimes({ phases, total }, width) {
  const served = PHASES.reduce((sum, name) => sum + (phases[name] ?? 0), 0);
  const option = {
    grid: { left: 4, right: 4, top: 34, bottom: 22, outerBoundsMode: "none" },
    legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 12, itemGap: width < 420 ? 7 : 14, textStyle: { color: colour("ink"), fontSize: 11.5 }, selectedMode: false },
    tooltip: tooltip({ formatter: ({ seriesName, value }) => `${seriesName}: ${milliseconds(value)}` }),
    xAxis: { type: "value", max: served, ...axisStyle({ axisLabel: { formatter: (value) => num(value, 2), showMaxLabel: false } }), splitLine: { show: false } },
    yAxis: { type: "category", data: [""], show: false },
    series: PHASES.map((name) => ({ name, type: "bar", stack: "time", barWidth: 24, data: [phases[name] ?? 0], itemStyle: { color: colour(name) } })),
  };
  const rows = [...PHASES.map((name) => [name, milliseconds(phases[name])]), ["in all, as the service sees it", milliseconds(served)], ["in all, as this browser sees it", milliseconds(total)]];
  return { option, head: ["phase", "time"], rows };
}

function describePath(layers, width) {
  const most = Math.max(4, ...layers.map(largest)) * 1.1;
  const clip = (value) => Math.sign(value) * Math.min(Math.abs(value), 40);
  const limit = Math.min(2 * Math.ceil(most / 2), 42);
  const series = Object.entries(SERIES).map(([key, name], i) => ({
    name, type: "line", symbol: i ? "circle" : "diamond", lineStyle: { width: 2, type: i ? "solid" : [6, 4] }, color: colour(i ? "live" : "mix"),
    data: layers.map((layer, row) => ({ value: [clip(layer[key]), row], symbolSize: Math.abs(layer[key]) > ODD ? 13 : 7, label: { show: Math.abs(layer[key]) > ODD, formatter: `${num(layer[key], 2)}\u00a0σ`, position: layer[key] > 0.75 * limit ? "left" : "right", color: colour("ink"), fontSize: 11.5 } })),
  }));
  series[0].markArea = { silent: true, itemStyle: { color: colour("live-soft"), opacity: 0.55 }, data: [[{ xAxis: -2 }, { xAxis: 2 }]], label: { show: false } };
  const option = {
    grid: { left: width < 420 ? 132 : 152, right: 18, top: 34, bottom: 26, outerBoundsMode: "none" },
    legend: { top: 0, left: 0, itemGap: 16, textStyle: { color: colour("ink"), fontSize: 12 }, selectedMode: false },
    tooltip: tooltip({ formatter: ({ dataIndex, seriesName }) => `${layers[dataIndex].name}\n${seriesName} ${num(layers[dataIndex][seriesName])}, ${num(layers[dataIndex][`${seriesName}_z`])} σ from the average` }),
    xAxis: { type: "value", min: -limit, max: limit, ...axisStyle({ axisLabel: { formatter: (value) => `${num(value, 2)}` } }) },
    yAxis: { type: "category", inverse: true, data: layers.map((layer) => shortName(layer.name)), ...axisStyle({ axisLabel: { color: colour("ink"), hideOverlap: false, interval: 0 } }), splitLine: { show: true, lineStyle: { color: colour("line") } } },
    series,
  };
  const rows = layers.map((layer) => [layer.name, num(layer.mean), num(layer.mean_z), num(layer.variance), num(layer.variance_z)]);
  const height = Math.max(320, 60 + ROW * layers.length);
  return { option, height, head: ["layer", "mean", "its distance, σ", "variance", "its distance, σ"], rows };
}
