// Ask the model, and see what the request did to every layer.
import { answerCard } from "./answer.js";
import { post } from "./api.js";
import { asksOf, keptOf, kindOf } from "./asks.js";
import { $, fill, h } from "./dom.js";
import { drawing } from "./drawing.js";
import { rankingCard } from "./ranking.js";
import { store } from "./store.js";

const MOST_DRAWN = 16; // rows and columns that are worth drawing on
const IMAGES = { digits: 8 }; // rows of a picture
const RANKS = ["embedding", "rerank", "vectors"]; // kinds that have no classes
const MOST_TYPED = 4096; // numbers of a row that fit into a field

let form, box, button, trouble, answer, kind, built, prompt;
let waiting = false; // whether something is to be asked once the answer is there
let away = false; // whether the trouble that is shown is the service's, and not of what is typed

// what was typed is of use to another model if that reads the same
const shapeOf = (model) => JSON.stringify([kindOf(model), promptsOf(model), model.inputs.num_features, model.inputs.tensors]);
const promptsOf = ({ task, inputs }) => task === "embedding" ? Object.keys(inputs.prompts ?? {}) : [];

// without an answer: that would be another model's
function rebuild(model) {
  const [text, chosen, active] = [box.value, prompt?.value, document.activeElement === box];
  const [from, to] = [box.selectionStart, box.selectionEnd];
  const same = built === shapeOf(model);
  build(model);
  if (!same) return;
  box.value = text;
  box.dispatchEvent(new Event("input"));
  if (prompt) prompt.value = chosen;
  if (active) box.focus({ preventScroll: true });
  if (active) box.setSelectionRange(from, to);
}

function build(model) {
  waiting = away = false;
  kind = kindOf(model);
  built = shapeOf(model);
  prompt = undefined;
  trouble = h("p", { class: "error", role: "alert", hidden: true });
  button = h("button", { type: "submit" }, "Ask");
  answer = RANKS.includes(kind) ? rankingCard(model) : answerCard(model);
  box = h("textarea", { id: "ask-text", rows: kind === "texts" ? 2 : 5, spellcheck: "false", autocomplete: "off", "aria-describedby": "ask-help", onkeydown: onKey });
  form = h("form", { class: "ask", onsubmit: submit }, ...fieldsOf[model.inputs.kind](model));
  fill($("view-try"), h("div", { class: "trial" },
    h("div", { class: "grid" }, h("div", { class: "card" }, h("h2", { class: "hidden" }, "Ask"), form), answer.third),
    h("div", { class: "grid", id: "answers" }, answer.first, answer.second)));
}

function textFields(model) {
  const { label, help, examples } = asksOf(kind);
  const chips = examples(model).map((text) =>
    h("button", { type: "button", class: "quiet", title: text, onclick: () => { box.value = text; form.requestSubmit(); } }, nameOf(text)));
  return [
    ...promptFields(model), h("label", { for: "ask-text" }, label), box, asking(),
    h("p", { id: "ask-help", class: "soft small" }, help(model)),
    h("div", { class: "chips", role: "group", "aria-label": "Examples" }, chips),
  ];
}

// which text is put before each input, where the model knows some by name
function promptFields(model) {
  const { prompts, default_prompt: usual } = model.inputs;
  const names = promptsOf(model);
  const options = names.map((name) => h("option", { value: name, title: prompts[name], selected: name === usual }, name));
  if (!usual) options.unshift(h("option", { value: "" }, "none"));
  if (!names.length) return [];
  prompt = h("select", { id: "ask-prompt" }, ...options);
  return [h("label", { for: "ask-prompt" }, "Prompt"), prompt];
}

function nameOf(example) {
  const [first, ...others] = example.split("\n");
  return others.length ? `${first} + ${others.length} line${others.length === 1 ? "" : "s"}` : first;
}

function featureFields(model) {
  const { num_features: features, max_tokens: steps } = model.inputs;
  const help = h("p", { id: "ask-help", class: "soft small" }, `Sequences of up to ${steps} steps of ${features} numbers. ${keptOf(model)}`);
  const label = h("label", { for: "ask-text" }, "Steps, as JSON");
  box.value = JSON.stringify([Array(features).fill(0)]);
  const rows = Object.hasOwn(IMAGES, model.training.dataset) ? IMAGES[model.training.dataset] : steps; // a picture may have fewer rows than the model can read
  if (rows > MOST_DRAWN || features > MOST_DRAWN) return [label, box, asking(), help];
  return [drawing(rows, features, box, () => form.requestSubmit()), label, box, asking(), help];
}

// a row of a network: nested lists of numbers, as its shape says
function tensorFields(model) {
  const { tensors } = model.inputs;
  const [{ shape }] = tensors;
  const sizes = shape.map((size) => size ?? 1);
  if (tensors.length > 1 || sizes.reduce((all, size) => all * size, 1) > MOST_TYPED) {
    return [h("p", { class: "empty" }, `Too much to type: ask POST /v2/models/${model.model}/infer, with `, tensors.map(({ name, dtype, shape }) => `${name} (${[dtype, ...shape.map((size) => size ?? "any")].join(" ")})`).join(", "), ".")];
  }
  box.value = JSON.stringify(sizes.reduceRight((inner, size) => Array(size).fill(inner), 0));
  const help = `A row of ${shape.map((size) => size ?? "any").join(" x ") || "one"} numbers, or a list of such rows. ${keptOf(model)}`;
  return [h("label", { for: "ask-text" }, "A row, as JSON"), box, asking(), h("p", { id: "ask-help", class: "soft small" }, help)];
}

const fieldsOf = { text: textFields, features: featureFields, tensors: tensorFields };

const asking = () => [h("div", { class: "row" }, button, h("span", { class: "soft small" }, "or Ctrl + Enter")), trouble];

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!button.disabled) form.requestSubmit();
  }
}

function inputs() {
  const { read } = asksOf(kind);
  if (read) {
    const lines = box.value.split("\n").filter((line) => line.trim());
    return read(lines.length ? lines : [""]);
  }
  const value = JSON.parse(box.value);
  const { inputs: reads } = store.get("model");
  if (reads.kind === "tensors") return depthOf(value) > reads.tensors[0].shape.length ? value : [value];
  return Array.isArray(value?.[0]?.[0]) ? value : [value];
}

const depthOf = (value) => Array.isArray(value) ? 1 + depthOf(value[0]) : 0;

// one at a time, so that answers come in order; who asks meanwhile is asked for when it is there
async function submit(event) {
  event.preventDefault();
  waiting = button.disabled;
  if (waiting) return;
  const [mine, shown] = [form, answer];
  button.disabled = true;
  try {
    const asked = inputs();
    const { path, body } = asksOf(kind).request(asked);
    const named = prompt?.value ? { prompt_name: prompt.value } : {};
    const told = await post(path, { ...body, ...named, ...store.get("chosen") });
    if (form !== mine) return; // another model is asked now
    shown.show(asked, told, path);
    trouble.hidden = true;
    if (innerWidth < 700) $("answers").scrollIntoView({ block: "start" });
  } catch (error) {
    if (form === mine) explain(error);
  } finally {
    if (form === mine) goOn();
  }
}

function goOn() {
  button.disabled = false;
  if (waiting) form.requestSubmit();
}

function explain(error) {
  away = [0, 401].includes(error.status) || error.status >= 500;
  trouble.hidden = false;
  trouble.textContent = error instanceof SyntaxError ? `That is not JSON: ${error.message}.` : error.message;
}

export const tryView = {
  show(visible) {
    const model = store.get("model");
    if (!visible || !model) return;
    if (!form) build(model);
    answer.redraw();
  },
};

store.on("model", (model) => {
  if (form) rebuild(model);
  else if (!$("view-try").hidden) build(model);
});
store.on("connection", (state) => {
  if (state === "live" && away) trouble.hidden = true;
});
