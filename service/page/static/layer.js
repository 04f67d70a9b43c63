// One norm in detail: what enters it, live beside the baseline.
import { Chart, axisStyle, colour, limitLine, tooltip } from "./charts.js";
import { breakable, h, refill, stateOf, table } from "./dom.js";
import { calledOf, count, num, percent, tick } from "./words.js";

const KINDS = { layer_norm: "LayerNorm", rms_norm: "RMSNorm", batch_norm: "BatchNorm", group_norm: "GroupNorm", instance_norm: "InstanceNorm" };

export function layerCard() {
  const charts = {
    variance: new Chart("Variance of what enters", 190, describeDistribution),
    mean: new Chart("Mean of what enters", 190, describeDistribution),
    history: new Chart("This layer's score over time, in units of its limit", 190, describeHistory),
    means: new Chart("Mean of each feature over the batch: live, beside the running mean", 190, describeRunning),
    variances: new Chart("Variance of each feature over the batch: live, beside the running one", 190, describeRunning),
    outliers: new Chart("The largest features of its output, beside the median feature", 190, describeOutliers),
  };
  const head = h("div", { class: "grid" });
  const facts = h("div", {});
  const nothing = h("p", { class: "empty", hidden: true });
  const trouble = h("p", { class: "error", hidden: true });
  const pictures = h("div", { class: "two" }, Object.values(charts).map((chart) => chart.element));
  const element = h("div", { class: "card grid" }, head, trouble, nothing, pictures, facts);

  return {
    element,
    fail(message) {
      trouble.hidden = false;
      trouble.textContent = message;
    },
    show({ layer, window }, history) {
      trouble.hidden = true;
      refill(head, title(layer));
      const few = layer.distributions.variance.live === null;
      nothing.hidden = !few;
      nothing.textContent = `${count(window.requests)} of 30 requests in this window: live distributions are shown from 30 on.`;
      charts.variance.draw(layer.distributions.variance);
      charts.mean.draw(layer.distributions.mean);
      charts.history.draw({ history, name: layer.name });
      for (const [name, moment] of [["means", "mean"], ["variances", "variance"]]) {
        charts[name].element.hidden = !layer.running;
        if (layer.running) charts[name].draw({ running: layer.running[moment], live: layer.live.features?.[moment] });
      }
      charts.outliers.element.hidden = !layer.deep;
      if (layer.deep) charts.outliers.draw(layer.deep);
      refill(facts, factsTable(layer));
    },
  };
}

function title(layer) {
  return h("div", {},
    h("h2", {}, breakable(calledOf(layer.name))),
    h("p", { class: "soft small" }, `${KINDS[layer.kind] ?? layer.kind} of ${layer.d_model} features of each ${layer.unit}${layer.unit === "token" ? `, ${layer.placement} placement` : ""}. `, stateOf(layer.drift.state)));
}

const pair = (live, usual, show) => [live === null || live === undefined ? "–" : show(live), usual === null || usual === undefined ? "–" : show(usual)];
const spread = (each) => `${num(each.mean)} ± ${num(each.std, 2)}`;

function factsTable({ live, baseline, drift, deep, unit, shifted }) {
  const row = (name, why, [now, usual]) => [[name, h("small", {}, why)], now, usual];
  const rows = [
    row(`Variance of a ${unit}`, "how strong the signal is; the norm divides by its root", pair(live.variance, baseline.variance, spread)),
    row(`Mean of a ${unit}`, "where the residual stream sits", pair(live.mean, baseline.mean, spread)),
    row("Length of a vector", "root mean square; growth over depth is normal, over time it is not", pair(live.residual_norm, baseline.residual_norm, num)),
    row(`Saturated ${unit}s`, "their variance is at most eps: constant or dead inputs", pair(live.saturated, baseline.saturated, (x) => percent(x, 2))),
    row("Not finite", "NaN or infinite; anything but 0 is an alarm", pair(live.not_finite, baseline.not_finite, count)),
  ];
  if (shifted?.length) {
    const [{ feature, live: now, baseline: usual, shift }] = shifted;
    rows.push([[`Feature ${feature}`, h("small", {}, `its mean moved most, by ${num(shift)} of its deviations`)], num(now), num(usual)]);
  }
  if (deep) {
    const [now, usual] = [deep.live, deep.baseline];
    rows.push(
      row("Update / residual", "how much the sublayer changes x: near 0 it idles, above 1 it overwrites", pair(now?.update?.ratio, usual.update?.ratio, spread)),
      row("Cosine of the update", "above 0 it strengthens x, below 0 it takes back", pair(now?.update?.cosine, usual.update?.cosine, spread)),
      row("int8 levels", "steps that one σ of a typical feature spans; below about 4 int8 hurts", pair(now?.int8_levels, usual.int8_levels, num)),
      row("Dead features", "they hardly move", pair(now?.dead, usual.dead, count)),
      row("Largest activation", "massive activations, and their disappearance, are telling", pair(now?.largest[0], usual.largest[0], (each) => `${num(each.value)} at feature ${each.feature}`)),
    );
  }
  const effect = drift.psi === undefined ? [] : [
    row("Population stability", "of the live distribution; above 0.1 worth a look, above 0.25 large", [num(drift.psi), ""]),
    row("Wasserstein distance", "in baseline σ", [num(drift.wasserstein), ""]),
  ];
  return table(["quantity", "live", "baseline"], [...rows, ...effect], { class: "facts" });
}

function describeDistribution({ edges, live, baseline }, width) {
  const middles = baseline.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const line = (name, shares, more) => ({ name, type: "line", smooth: 0.3, symbol: "none", data: middles.map((x, i) => [x, shares[i]]), ...more });
  const series = [line("baseline", baseline, { color: colour("usual"), lineStyle: { width: 2, type: [5, 4] } })];
  if (live) series.push(line("live", live, { color: colour("live"), lineStyle: { width: 2.25 }, areaStyle: { color: colour("live"), opacity: 0.16 } }));
  const option = {
    grid: { left: 8, right: 12, top: 30, bottom: 24, outerBoundsMode: "none" },
    legend: { top: 0, left: 0, itemGap: 14, itemWidth: 16, itemHeight: 3, icon: "rect", textStyle: { color: colour("ink"), fontSize: 11.5 }, selectedMode: false },
    tooltip: tooltip({ trigger: "axis", formatter: (points) => [num(points[0].value[0]), ...points.map((point) => `${point.seriesName}: ${percent(point.value[1])} of them`)].join("\n") }),
    xAxis: { type: "value", min: edges[0], max: edges.at(-1), splitNumber: width < 360 ? 3 : 5, ...axisStyle({ axisLabel: { formatter: (x) => num(x, 2), showMinLabel: false, showMaxLabel: false } }), splitLine: { show: false } },
    yAxis: { type: "value", show: false },
    series,
  };
  const rows = baseline.map((share, i) => [`${num(edges[i])} to ${num(edges[i + 1])}`, live ? percent(live[i]) : "–", percent(share)]);
  return { option, head: ["from, to", "live", "baseline"], rows };
}

// BatchNorm: each feature is a point; on the line, live traffic has the moment that it is normalized with
function describeRunning({ running, live }) {
  const all = [...running, ...(live ?? [])];
  const margin = 0.04 * (Math.max(...all) - Math.min(...all));
  const [low, high] = [Math.min(...all) - margin, Math.max(...all) + margin];
  const axis = { type: "value", min: low, max: high, splitNumber: 3, ...axisStyle({ axisLabel: { formatter: (x) => num(x, 2), showMinLabel: false, showMaxLabel: false } }), nameLocation: "middle", nameTextStyle: { color: colour("ink") } };
  const option = {
    grid: { left: 66, right: 12, top: 14, bottom: 40, outerBoundsMode: "none" },
    tooltip: tooltip({ trigger: "item", formatter: ({ dataIndex, value }) => `feature ${dataIndex}\nrunning: ${num(value[0])}\nlive: ${num(value[1])}` }),
    xAxis: { ...axis, name: "running", nameGap: 22 },
    yAxis: { ...axis, name: "live", nameGap: 48, nameMoveOverlap: false, splitLine: { show: false } },
    series: [{
      type: "line", lineStyle: { opacity: 0 }, symbol: "circle", symbolSize: 5, color: colour("live"), data: live ? running.map((each, i) => [each, live[i]]) : [],
      markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour("usual"), type: [5, 4] }, data: [[{ coord: [low, low] }, { coord: [high, high] }]] },
    }],
  };
  const rows = running.map((each, i) => [String(i), num(live?.[i]), num(each)]);
  return { option, head: ["feature", "live", "running"], rows };
}

function describeHistory({ history, name }) {
  const row = history.rows.indexOf(name);
  const time = (at) => tick(at, history.slice_seconds);
  const points = history.slices.map((slice) => [Date.parse(slice.from), slice.departures ? slice.departures[row] : null]);
  const option = {
    grid: { left: 34, right: 26, top: 14, bottom: 24, outerBoundsMode: "none" },
    tooltip: tooltip({ trigger: "axis", formatter: ([point]) => `from ${time(point.value[0])}\n${point.value[1] === null ? "too few requests" : `${num(point.value[1], 2)} times the limit`}` }),
    xAxis: { type: "time", min: Math.min(Date.parse(history.from), Date.parse(history.to) - 300_000), max: Date.parse(history.to), splitNumber: 4, ...axisStyle({ axisLabel: { formatter: time, showMaxLabel: false } }), splitLine: { show: false } },
    yAxis: { type: "value", min: 0, max: ({ max }) => Math.max(1.5, 1.1 * max), splitNumber: 3, ...axisStyle({ axisLabel: { showMaxLabel: false }, splitLine: { showMaxLine: false } }) },
    series: [{ type: "line", data: points, symbol: "circle", symbolSize: 4, color: colour("live"), lineStyle: { width: 2 }, areaStyle: { color: colour("live"), opacity: 0.1 }, markLine: limitLine("y", 1, "limit") }],
  };
  const rows = points.map(([at, value], i) => [time(at), count(history.slices[i].requests), num(value, 2)]);
  return { option, head: ["from", "requests", "times the limit"], rows };
}

function describeOutliers({ live, baseline }) {
  const usual = new Map(baseline.outliers.map((each) => [each.feature, each.ratio]));
  const now = new Map((live?.outliers ?? []).map((each) => [each.feature, each.ratio]));
  const features = [...new Set([...now.keys(), ...usual.keys()])].slice(0, 7);
  const bar = (name, ratios, tone) => ({ name, type: "bar", color: colour(tone), barGap: "12%", itemStyle: { borderRadius: [3, 3, 0, 0] }, data: features.map((feature) => ratios.get(feature) ?? null) });
  const option = {
    grid: { left: 34, right: 12, top: 30, bottom: 24, outerBoundsMode: "none" },
    legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 12, itemGap: 14, textStyle: { color: colour("ink"), fontSize: 11.5 }, selectedMode: false },
    tooltip: tooltip({ trigger: "axis", axisPointer: { type: "none" }, formatter: (points) => [`feature ${points[0].name}`, ...points.map((point) => `${point.seriesName}: ${point.value ? `${num(point.value)} times the median` : "not among the largest"}`)].join("\n") }),
    xAxis: { type: "category", data: features.map(String), ...axisStyle() },
    yAxis: { type: "value", splitNumber: 3, ...axisStyle() },
    series: [bar("baseline", usual, "usual"), ...(live ? [bar("live", now, "live")] : [])],
  };
  const rows = features.map((feature) => [String(feature), num(now.get(feature)), num(usual.get(feature))]);
  return { option, head: ["feature", "live, times the median", "baseline"], rows };
}
