// The map of layers over time, with the requests of every slice below it.
import { Chart, axisStyle, colour, tooltip } from "./charts.js";
import { STATE_WORDS, h } from "./dom.js";
import { count, num, shortName, tick } from "./words.js";

const FEW = -1;
const TIME = 50; // pixels of a time below a slice
const SIGN = 10; // pixels that a sign takes
const ROW = 15; // pixels of a layer, where there are many

export function heatmap(caption) {
  const chart = new Chart(caption, 300, describe);
  chart.more.before(h("ul", { class: "legend" }, STEPS.map(({ name, label, sign }) => h("li", {}, h("i", { class: name }, sign), label))));
  return chart;
}

// a ramp of lightness, so that it needs no hue to be read
const STEPS = [
  { name: "heat-none", value: FEW, label: "too few requests" },
  { name: "heat-0", min: 0, lt: 0.5, label: "under half the limit" },
  { name: "heat-1", min: 0.5, lte: 1, label: "under the limit" },
  { name: "heat-2", gt: 1, lte: 2, label: "above it", sign: "▲" },
  { name: "heat-3", gt: 2, lte: 4, label: "more than twice", sign: "▲" },
  { name: "heat-4", gt: 4, label: "more than four times", sign: "▲" },
];
const stepOf = (value) => STEPS.findLast(({ value: only, min, gt }) => value === only || value >= min || value > gt);
const HATCH = { symbol: "rect", rotation: -Math.PI / 4, dashArrayX: [1, 0], dashArrayY: [1.5, 3] };

// Every slice from the window's beginning to its end, those without traffic too.
function timeline(history) {
  const known = new Map(history.slices.map((slice) => [Date.parse(slice.from), slice]));
  const step = 1000 * history.slice_seconds;
  const times = [];
  for (let time = Date.parse(history.from); time < Date.parse(history.to); time += step) times.push(time);
  return times.map((time) => ({ time: tick(time, history.slice_seconds), ...(known.get(time) ?? { requests: 0, state: null, departures: null }) }));
}

// wide: pixels of a slice; where a sign is wider, the next ones to its right are left out
function cells(slices, rows, wide) {
  const last = rows.map(() => -Infinity);
  const hatch = { ...HATCH, color: colour("line-strong") };
  return slices.flatMap((slice, x) => slice.state === null ? [] : rows.map((_, y) => {
    const value = slice.departures ? Math.max(0, slice.departures[y]) : FEW;
    const step = stepOf(value);
    const signed = step.sign && (x - last[y]) * wide >= SIGN;
    if (signed) last[y] = x;
    return { value: [x, y, value], itemStyle: value === FEW ? { decal: hatch } : undefined, label: { show: Boolean(signed), color: step.sign && colour(`on-${step.name}`) } };
  }));
}

function describe(history, width) {
  const slices = timeline(history);
  const narrow = width < 560;
  const tall = Math.max(216, ROW * history.rows.length);
  const grid = { left: narrow ? 132 : 160, right: 12, outerBoundsMode: "none" };
  const wide = (width - grid.left - grid.right) / slices.length;
  const times = { type: "category", data: slices.map((slice) => slice.time) };
  const label = { fontSize: 8, formatter: "▲" };
  const option = {
    grid: [{ ...grid, top: 8, height: tall }, { ...grid, top: tall + 18, height: 40 }],
    tooltip: tooltip({ formatter: ({ seriesType, dataIndex, value }) => (seriesType === "bar" ? requests(slices[dataIndex]) : say(slices[value[0]], history.rows[value[1]], value[2])) }),
    xAxis: [
      { ...times, ...axisStyle({ axisLabel: { show: false } }), axisLine: { show: false }, splitLine: { show: false } },
      { ...times, gridIndex: 1, ...axisStyle({ axisLabel: wide < TIME ? { alignMaxLabel: "right" } : {} }), splitLine: { show: false } },
    ],
    yAxis: [
      { type: "category", inverse: true, data: history.rows.map(shortName), ...axisStyle({ axisLabel: { color: colour("ink"), hideOverlap: false, interval: 0 } }), axisLine: { show: false }, splitLine: { show: false } },
      { type: "value", gridIndex: 1, splitNumber: 1, ...axisStyle({ axisLabel: { formatter: count, showMinLabel: false } }), name: "requests", nameLocation: "start", nameTextStyle: { align: "right", verticalAlign: "bottom", padding: [0, 8, 14, 0], color: colour("ink"), fontSize: 11.5 } },
    ],
    visualMap: { type: "piecewise", show: false, seriesIndex: 0, dimension: 2, pieces: STEPS.map(({ name, label, ...range }) => ({ ...range, color: colour(name) })) },
    series: [
      { type: "heatmap", data: cells(slices, history.rows, wide), label, itemStyle: { borderColor: colour("surface"), borderWidth: narrow ? 0.4 : 1.6, borderRadius: narrow ? 0 : 3 }, emphasis: { itemStyle: { borderColor: colour("ink") } } },
      { type: "bar", xAxisIndex: 1, yAxisIndex: 1, data: slices.map((slice) => slice.requests), itemStyle: { color: colour("usual") }, barCategoryGap: "22%" },
    ],
  };
  const rows = slices.filter((slice) => slice.state !== null).map((slice) => [
    slice.time, count(slice.requests), STATE_WORDS[slice.state], ...history.rows.map((_, y) => (slice.departures ? num(slice.departures[y], 2) : "–")),
  ]);
  return { option, height: tall + 84, head: ["from", "requests", "state", ...history.rows], rows };
}

const requests = (slice) => `from ${slice.time}\n${count(slice.requests)} requests`;

function say(slice, row, value) {
  const far = value === FEW ? "too few requests to judge" : `${num(value, 2)} times the limit`;
  return `${row}, from ${slice.time}\n${far}\n${count(slice.requests)} requests`;
}
