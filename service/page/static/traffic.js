// How much is asked, how fast it is answered, and what keeping statistics costs.
import { Chart, axisStyle, colour, tooltip } from "./charts.js";
import { $, fill, h, refill } from "./dom.js";
import { store } from "./store.js";
import { count, milliseconds, num, percent } from "./words.js";

const KEPT = 300; // samples, of every two seconds
const seen = []; // since the page was opened
let shown = false;
const rates = new Chart("Inputs answered per second, since this page was opened", 200, describeRates);
const delays = new Chart("Time to answer, in milliseconds: median, 95th and 99th percentile", 200, describeDelays);
const phases = new Chart("Where that time goes: the mean of each phase, in milliseconds", 200, describePhases);
const tiles = h("dl", { class: "tiles" });
const refused = h("div");

function build() {
  fill($("view-traffic"), h("div", { class: "grid" },
    tiles,
    h("div", { class: "two" }, h("div", { class: "card" }, rates.element), h("div", { class: "card" }, delays.element)),
    h("div", { class: "two" }, h("div", { class: "card" }, phases.element), h("div", { class: "card" }, refused))));
}

export const trafficView = {
  show(visible) {
    shown = visible;
    if (!visible) return;
    if (!$("view-traffic").firstChild) build();
    update();
  },
};

store.on("summary", (summary) => {
  seen.push({ at: Date.now(), ...summary.traffic.last_10s });
  if (seen.length > KEPT) seen.shift();
  if (shown) update();
});

function update() {
  const summary = store.get("summary");
  if (!summary) return;
  refill(tiles, tilesOf(summary).map(([name, value, note, words]) =>
    h("div", { class: "card tile" }, h("dt", {}, name), h("dd", { class: words ? "words" : undefined }, value), h("dd", {}, note))));
  refill(refused, refusals(summary.traffic.last_10s.refusals));
  rates.draw(seen);
  delays.draw(seen);
  phases.draw(summary.traffic.last_10s.latency_seconds);
}

function tilesOf({ traffic, overhead_ratio: overhead, requests, since }) {
  const { now, last_10s: lately, workers } = traffic;
  const model = store.get("model");
  const total = lately.latency_seconds.total;
  const calls = lately.protocols.grpc;
  const delay = (seconds) => (seconds === null ? "–" : milliseconds(1000 * seconds));
  return [
    ["Requests per second", num(lately.predictions_per_second), `${num(lately.rows_per_second)} inputs, ${num(lately.tokens_per_second)} tokens${calls ? `; ${num(calls / lately.seconds)} calls over gRPC` : ""}`],
    ["Median time to answer", delay(total.p50), `95 %: ${delay(total.p95)}, 99 %: ${delay(total.p99)}`],
    ["Waiting to run", count(now.queue_requests), `${count(now.queue_tokens)} tokens in the queue`],
    ["Inputs in a batch", lately.mean_batch_rows === null ? "–" : num(lately.mean_batch_rows), lately.padding_ratio === null ? "no batch lately" : `padding adds ${percent(lately.padding_ratio - 1, 0)} tokens`],
    ["Answered in all", count(requests), `inputs since ${new Date(since).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })}`],
    ["Statistics cost", percent(overhead.always_on), `of serving time; deep looks ${percent(overhead.deep)} of at most ${percent(overhead.deep_budget, 0)}`],
    ["Memory", `${num(now.resident_bytes / 2 ** 20)} MiB`, "all workers, shared pages counted for each"],
    ["Runs on", model ? model.provider.replace("ExecutionProvider", "") : "–", `${workers} worker${workers === 1 ? "" : "s"}${model?.fallback_reason ? "; no GPU was to be had" : ""}`],
  ];
}

function refusals(reasons) {
  const rows = Object.entries(reasons).filter(([, times]) => times > 0);
  const words = {
    invalid: "inputs that the model cannot read", unauthorized: "no API key, or a wrong one", too_large: "too many inputs, or too large a body",
    overloaded: "too much waited already: send less, or add workers", deadline: "not answered in time", unavailable: "the service was stopping",
    abandoned: "the client left", defect: "a defect of the service: see its log",
  };
  return [
    h("h2", {}, "Not answered, in the last 10 seconds"),
    rows.length ? h("ul", { class: "moved" }, rows.map(([reason, times]) => h("li", {}, h("strong", {}, count(times)), ` ${reason}: ${words[reason] ?? ""}`)))
      : h("p", { class: "empty" }, "Every request was answered."),
  ];
}

function overTime(samples, series, unit) {
  const time = (at) => new Date(at).toLocaleTimeString("en-GB");
  const last = samples.at(-1).at;
  const option = {
    grid: { left: 44, right: 14, top: series.length > 1 ? 32 : 14, bottom: 24, outerBoundsMode: "none" },
    legend: series.length > 1 ? { top: 0, left: 0, itemWidth: 16, itemHeight: 3, icon: "rect", textStyle: { color: colour("ink"), fontSize: 11.5 }, selectedMode: false } : undefined,
    tooltip: tooltip({ trigger: "axis", formatter: (points) => [time(points[0].value[0]), ...points.map((point) => `${point.seriesName} ${num(point.value[1])} ${unit}`)].join("\n") }),
    xAxis: { type: "time", min: Math.min(samples[0].at, last - 60_000), max: last, splitNumber: 4, ...axisStyle({ axisLabel: { formatter: (at) => time(at), showMinLabel: false, showMaxLabel: false } }), splitLine: { show: false } },
    yAxis: { type: "value", min: 0, splitNumber: 3, ...axisStyle({ axisLabel: { formatter: (value) => num(value) } }) },
    series: series.map(({ name, tone, type, pick, area }) => ({
      name, type: "line", symbol: "circle", symbolSize: 3, showSymbol: samples.length < 3, color: colour(tone), lineStyle: { width: 2, type: type ?? "solid" },
      areaStyle: area ? { color: colour(tone), opacity: 0.14 } : undefined, data: samples.map((sample) => [sample.at, pick(sample)]),
    })),
  };
  const rows = samples.slice(-60).map((sample) => [time(sample.at), ...series.map(({ pick }) => num(pick(sample)))]);
  return { option: { ...option, animation: false }, head: ["at", ...series.map(({ name }) => name)], rows };
}

function describeRates(samples) {
  return overTime(samples, [{ name: "inputs", tone: "live", area: true, pick: (sample) => sample.rows_per_second }], "a second");
}

const quantile = (name) => (sample) => (sample.latency_seconds.total[name] === null ? null : 1000 * sample.latency_seconds.total[name]);

function describeDelays(samples) {
  return overTime(samples, [
    { name: "50 %", tone: "live", pick: quantile("p50") },
    { name: "95 %", tone: "mix", type: [6, 4], pick: quantile("p95") },
    { name: "99 %", tone: "drift", type: [2, 3], pick: quantile("p99") },
  ], "ms");
}

function describePhases(latencies) {
  const names = ["parse", "tokenize", "queue", "infer", "serialize"];
  const mean = (name) => (latencies[name].mean === null ? null : 1000 * latencies[name].mean);
  const option = {
    grid: { left: 70, right: 64, top: 8, bottom: 8, outerBoundsMode: "none" },
    xAxis: { type: "value", show: false },
    yAxis: { type: "category", inverse: true, data: names, ...axisStyle({ axisLabel: { color: colour("ink"), hideOverlap: false, interval: 0 } }), axisLine: { show: false } },
    series: [{ type: "bar", barMaxWidth: 18, data: names.map((name) => ({ value: mean(name), itemStyle: { color: colour(name), borderRadius: 4 } })), label: { show: true, position: "right", color: colour("ink"), fontSize: 12, formatter: ({ value }) => milliseconds(value) } }],
  };
  return { option, head: ["phase", "mean", "95 %"], rows: names.map((name) => [name, milliseconds(mean(name)), milliseconds(latencies[name].p95 === null ? null : 1000 * latencies[name].p95)]) };
}
