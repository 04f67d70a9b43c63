// Apache ECharts in the page's colours, each chart with a caption and the same numbers as a table.
import { init } from "./vendor/echarts-6.1.0.js";
import { h, refill, table } from "./dom.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export class Chart {
  // caption: what it shows; height: pixels; describe: data -> {option, head, rows} and perhaps
  // another height, asked again when the theme changes
  constructor(caption, height, describe) {
    this.describe = describe;
    this.height = height;
    this.canvas = h("div", { class: "canvas", role: "img", "aria-label": caption });
    this.canvas.style.height = `${height}px`;
    this.more = h("details", { ontoggle: () => this.tabulate() }, h("summary", {}, "As a table"));
    this.element = h("figure", { class: "figure" }, h("figcaption", {}, caption), this.canvas, this.more);
    drawn.add(this);
  }

  draw(data) {
    this.data = data;
    if (!this.canvas.clientWidth) return; // hidden: drawn when it is shown
    this.chart ??= this.#start();
    const { option, height } = this.describe(data, this.canvas.clientWidth);
    this.#stretch(height ?? this.height);
    this.chart.setOption({ ...frame(), ...option }, { notMerge: true });
    this.tabulate();
  }

  redraw() {
    if (this.data !== undefined) this.draw(this.data);
  }

  tabulate() {
    if (!this.more.open || this.data === undefined) return;
    const { head, rows } = this.describe(this.data, 600);
    if (!this.scroller) this.more.append(this.scroller = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }));
    refill(this.scroller, table(head, rows));
  }

  dispose() {
    this.chart?.dispose();
    this.observer?.disconnect();
    drawn.delete(this);
  }

  #stretch(height) {
    if (this.canvas.style.height === `${height}px`) return;
    this.canvas.style.height = `${height}px`;
    this.chart.resize();
  }

  #start() {
    const chart = init(this.canvas, null, { renderer: "canvas" });
    this.observer = new ResizeObserver(() => {
      if (!this.canvas.clientWidth) return;
      chart.resize();
      this.redraw();
    });
    this.observer.observe(this.canvas);
    return chart;
  }
}

export const redrawAll = () => drawn.forEach((chart) => chart.redraw());
dark.addEventListener("change", redrawAll);

function frame() {
  return {
    animation: !calm.matches,
    animationDuration: 350,
    animationDurationUpdate: 350,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("ink") },
  };
}

// Drawn on the canvas: ECharts' other way to show a tooltip is markup.
export const tooltip = (more = {}) => ({
  renderMode: "richText",
  backgroundColor: colour("surface"),
  borderColor: colour("line-strong"),
  textStyle: { color: colour("ink"), fontSize: 12.5, lineHeight: 18 },
  padding: [7, 10],
  confine: true,
  ...more,
});

export const axisStyle = (more = {}) => ({
  axisLine: { lineStyle: { color: colour("line-strong") } },
  axisTick: { show: false },
  axisLabel: { color: colour("soft"), fontSize: 11.5, hideOverlap: true, ...more.axisLabel },
  splitLine: { lineStyle: { color: colour("line") }, ...more.splitLine },
  nameTextStyle: { color: colour("soft"), fontSize: 11.5 },
});

export const limitLine = (axis, value, label) => ({
  silent: true,
  symbol: "none",
  lineStyle: { color: colour("drift"), type: [5, 4], width: 1.25 },
  label: { formatter: label, color: colour("drift"), fontSize: 11, position: axis === "x" ? "start" : "insideStartTop" },
  data: [{ [`${axis}Axis`]: value }],
});
