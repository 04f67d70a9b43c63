// The answer of a model without classes: texts ranked by their scores, or one text's vector.
import { Chart, axisStyle, colour, tooltip } from "./charts.js";
import { fill, h } from "./dom.js";
import { count, milliseconds, num, read } from "./words.js";

const FIRST = 6; // numbers of a vector that are written out
const WORDS = {
  similarity: { title: "Nearest to the first text", score: "cosine", scale: "The cosine of each text's vector and the first text's, at most 1. The nearest text comes first; a bar is empty at 0 and below." },
  rerank: { title: "Best answers to the query", score: "score", scale: "Score of each document, from 0 to 1: how well it answers the query." },
};
const LOGITS = "Score of each document, a logit: how well it answers the query. A bar is half full at 0.";
const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

export function rankingCard({ activation }) {
  const plain = activation === "identity"; // scores are logits
  const vector = new Chart("The numbers of its vector, in their order", 150, describeVector);
  const said = h("div", { class: "answer", "aria-live": "polite" });
  const first = h("div", { class: "card" }, h("h2", {}, "Answer"), h("p", { class: "empty" }, "Ask something, or choose an example."));

  return {
    first, second: null, third: null,
    show(asked, { answer, total }, path) {
      const took = h("p", { class: "soft small" }, `Answered in ${milliseconds(total)}, as this browser sees it.`);
      if (path === "embed") {
        fill(said, aboutVector(answer.embeddings[0]));
        fill(first, h("h2", {}, "Its vector"), said, vector.element, took);
        vector.draw(answer.embeddings[0].embedding);
        return;
      }
      const { title, score, scale } = WORDS[path];
      const ranked = path === "rerank" ? documents(asked, answer) : neighbours(asked, answer);
      fill(said, h("p", { class: "source" }, asked[0]), h("p", { class: "soft small", id: "scale" }, plain ? LOGITS : scale));
      fill(first, h("h2", {}, title), said, list(ranked, score, plain ? sigmoid : Number), took);
    },
    redraw: () => vector.redraw(),
  };
}

function neighbours([, ...texts], { similarities }) {
  const rows = texts.map((text, i) => ({ text, score: similarities[i] }));
  return rows.sort((a, b) => b.score - a.score);
}

function documents([, ...texts], { results, truncated = [] }) {
  return results.map((each) => ({ text: texts[each.index], score: each.relevance_score, cut: truncated.includes(each.index) }));
}

function list(ranked, name, shareOf) {
  return h("ol", { class: "ranked", "aria-describedby": "scale" }, ranked.map(({ text, score, cut }) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", Math.min(Math.max(shareOf(score), 0), 1));
    return h("li", {},
      h("span", { class: "given", title: text }, text, cut ? h("small", { class: "soft" }, " (the rest was cut off)") : null),
      h("span", { class: "score" }, h("span", { class: "hidden" }, `${name} `), num(score)), bar);
  }));
}

function aboutVector({ embedding, tokens, truncated }) {
  const length = Math.hypot(...embedding);
  return [
    h("p", { class: "label", "data-answer": "vector" }, `${count(embedding.length)} numbers`),
    h("p", { class: "soft" }, `${read(tokens)}${truncated ? "; the rest was cut off" : ""}. The vector's length is ${num(length)}.`),
    h("p", { class: "small" }, "It begins with ", h("code", {}, embedding.slice(0, FIRST).map((x) => num(x)).join(", ")), "."),
  ];
}

function describeVector(vector) {
  const option = {
    grid: { left: 48, right: 8, top: 8, bottom: 22, outerBoundsMode: "none" },
    tooltip: tooltip({ trigger: "axis", axisPointer: { type: "none" }, formatter: ([point]) => `number ${point.dataIndex + 1}: ${num(vector[point.dataIndex])}` }),
    xAxis: { type: "category", data: vector.map((_, i) => String(i + 1)), ...axisStyle(), axisLine: { show: false } },
    yAxis: { type: "value", splitNumber: 2, ...axisStyle({ axisLabel: { formatter: (value) => num(value, 2) } }) },
    series: [{ type: "bar", barCategoryGap: "0%", data: vector, itemStyle: { color: colour("live") } }],
  };
  return { option, head: ["number", "value"], rows: vector.map((value, i) => [String(i + 1), num(value)]) };
}
