// Ask the model, and see what the request did to every layer.
import { predict } from "./api.js";
import { answerCard } from "./answer.js";
import { $, fill, h } from "./dom.js";
import { drawing } from "./drawing.js";
import { store } from "./store.js";

const TOP = 5;
const MOST_DRAWN = 16; // rows and columns that are worth drawing on
const IMAGES = { digits: 8 }; // rows of a picture
const EXAMPLES = {
  clinc150: [
    "how much money do i have in my account",
    "wake me up at half past six tomorrow",
    "will it rain in paris this weekend",
    "my card was stolen, please block it",
  ],
};
const STRANGE = ["der schnelle braune fuchs springt über den faulen hund", "buy buy buy buy buy", "я не понимаю"];

let form, box, button, trouble, answer, kind;

function examples(model) {
  const usual = EXAMPLES[model.training.dataset] ?? model.labels.slice(0, 4).map((label) => label.replaceAll("_", " "));
  return [...usual, ...STRANGE];
}

function build(model) {
  kind = model.inputs.kind;
  trouble = h("p", { class: "error", role: "alert", hidden: true });
  button = h("button", { type: "submit" }, "Ask");
  answer = answerCard();
  box = h("textarea", { id: "ask-text", spellcheck: "false", autocomplete: "off", "aria-describedby": "ask-help", onkeydown: onKey });
  form = h("form", { class: "ask", onsubmit: submit }, ...(kind === "text" ? textFields(model) : featureFields(model)));
  fill($("view-try"), h("div", { class: "trial" },
    h("div", { class: "grid" }, h("div", { class: "card" }, h("h2", { class: "hidden" }, "Ask"), form), answer.third),
    h("div", { class: "grid", id: "answers" }, answer.first, answer.second)));
}

function textFields(model) {
  const chips = examples(model).map((text) =>
    h("button", { type: "button", class: "quiet", onclick: () => { box.value = text; form.requestSubmit(); } }, text));
  return [
    h("label", { for: "ask-text" }, "Text"), box, asking(),
    h("p", { id: "ask-help", class: "soft small" }, `One line is one request; the model reads up to ${model.inputs.max_tokens} tokens of each. It counts as traffic, and is kept nowhere.`),
    h("div", { class: "chips", role: "group", "aria-label": "Examples" }, chips),
  ];
}

function featureFields(model) {
  const { num_features: features, max_tokens: steps } = model.inputs;
  const help = h("p", { id: "ask-help", class: "soft small" }, `Sequences of up to ${steps} steps of ${features} numbers. It counts as traffic, and is kept nowhere.`);
  const label = h("label", { for: "ask-text" }, "Steps, as JSON");
  box.value = JSON.stringify([Array(features).fill(0)]);
  const rows = IMAGES[model.training.dataset] ?? steps; // a picture may have fewer rows than the model can read
  if (rows > MOST_DRAWN || features > MOST_DRAWN) return [label, box, asking(), help];
  return [drawing(rows, features, box, () => form.requestSubmit()), label, box, asking(), help];
}

const asking = () => [h("div", { class: "row" }, button, h("span", { class: "soft small" }, "or Ctrl + Enter")), trouble];

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
}

function inputs() {
  if (kind === "text") {
    const lines = box.value.split("\n").filter((line) => line.trim());
    return lines.length ? lines : [""];
  }
  const value = JSON.parse(box.value);
  return Array.isArray(value?.[0]?.[0]) ? value : [value];
}

async function submit(event) {
  event.preventDefault();
  button.disabled = true;
  try {
    const asked = inputs();
    answer.show(asked, await predict({ inputs: asked, top_k: TOP, norm_stats: true }));
    trouble.hidden = true;
    if (innerWidth < 700) $("answers").scrollIntoView({ block: "start" });
  } catch (error) {
    trouble.hidden = false;
    trouble.textContent = error instanceof SyntaxError ? `That is not JSON: ${error.message}.` : error.message;
  } finally {
    button.disabled = false;
  }
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
  if (!form && !$("view-try").hidden) build(model);
  else if (form && kind !== model.inputs.kind) build(model); // what was typed is of no use to the new model
});
