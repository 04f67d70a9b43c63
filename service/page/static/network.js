// The encoder as the Add & Norm papers draw it, read from the names and placement of its norms. Of other people's
// encoders only the norms are drawn, block by block: their names do not tell what lies between.
import { breakable, h, refill, stateOf } from "./dom.js";
import { linesOf } from "./verdict.js";
import { blockOf, ofLimit, partName } from "./words.js";

const OURS = /^(blocks\.(\d+))\.(attention|feed_forward)\.norm$/;
const SUBLAYERS = { attention: "Self-Attention", feed_forward: "Feed-Forward" };

export function drawNetwork(list, summary, placements, selected) {
  const lines = linesOf(summary).filter((line) => ![summary.all_layers, summary.unlikeness].includes(line));
  const ours = lines.some((line) => OURS.test(line.name));
  list.classList.toggle("norms", !ours);
  refill(list, lines.flatMap((line, i) => {
    const chosen = line.name === selected;
    return ours ? partsOf(line, placements[line.name] ?? "post", chosen) : normOf(line, lines[i - 1], chosen);
  }));
}

function partsOf(line, placement, selected) {
  const found = line.name.match(OURS);
  if (!found) return [item(norm(line, titleOf(line.name), selected))];
  const block = found[3] === "attention" ? [h("li", { class: "block" }, `Block ${found[2]}`)] : [];
  const sublayer = h("span", { class: "node plain" }, SUBLAYERS[found[3]]);
  if (placement === "post") return [...block, item(sublayer, "around"), item(norm(line, "Add & Norm", selected), "into")];
  return [...block, item(norm(line, "Norm", selected), "around pre"), item(sublayer), item(h("span", { class: "node plain add" }, "Add"), "into pre")];
}

function normOf(line, before, selected) {
  const block = blockOf(line.name);
  if (!block) return [item(norm(line, titleOf(line.name), selected))];
  const { stack, number, rest } = block;
  const last = before && blockOf(before.name);
  const same = last && last.stack === stack && last.number === number;
  return [same ? null : h("li", { class: "block" }, `Block ${number}`), item(norm(line, capital(partName(rest)), selected, rest))];
}

const capital = (word) => word[0].toUpperCase() + word.slice(1).replaceAll("_", " ");

const item = (node, className) => h("li", { class: className }, node);

function titleOf(name) {
  if (name === "input") return "Input x";
  if (name === "output") return "Output";
  if (name === "embeddings.norm") return "Embedding & Norm";
  if (name === "embeddings.LayerNorm") return "Embedding Norm";
  return name.startsWith("final") ? "Final Norm" : "Norm";
}

function norm(line, title, selected, name = line.name) {
  const ends = line.name === "input" || line.name === "output";
  const score = line.threshold ? ofLimit(line.score, line.threshold) : "";
  const parts = [h("strong", {}, title), stateOf(line.state), h("span", { class: "name" }, ends ? "" : breakable(name)), h("span", { class: "score" }, score)];
  if (ends) return h("div", { class: "node", "data-state": line.state }, parts);
  return h("a", { class: "node", title: line.name, href: `#layers/${encodeURIComponent(line.name)}`, "data-state": line.state, "aria-current": selected ? "true" : undefined }, parts);
}
