// What is asked of each kind of model: how the lines are read, where they are sent, and examples.

const TOP = 5;
const CLINC = [
  "how much money do i have in my account",
  "wake me up at half past six tomorrow",
  "will it rain in paris this weekend",
  "my card was stolen, please block it",
];
const USUAL = { clinc150: CLINC };
const STRANGE = ["der schnelle braune fuchs springt über den faulen hund", "buy buy buy buy buy", "я не понимаю"];
const DOCUMENTS = [
  "A lost or stolen card is blocked at once, in the app or by phone.",
  "Transfers to another bank arrive on the next working day.",
  "The balance of every account is shown on the first page of the app.",
];
const NUMBERED = /^label_\d+$/i; // the name of a label that nobody named

const KEPT = {
  none: "It counts as traffic, and is kept nowhere.",
  scores: "It counts as traffic. What you type is kept nowhere; the service may log the scores of the answer.",
  texts: "It counts as traffic, and the service may log it, with what you type.",
  vector: "It counts as traffic. What you type is kept nowhere; the service may log how long and how usual it is.",
  lone: "It counts as traffic. What you type is kept nowhere; of one line alone, the service may log how long and how usual it is.",
  loneText: "It counts as traffic. Lines that are compared are kept nowhere; one line alone the service may log, with what you type.",
};

// what becomes of what is asked: the service logs what /predict and /embed are asked, and of that single texts alone
export function keptOf(model) {
  const { input_log: log } = model;
  const kind = kindOf(model);
  if (log === "none" || kind === "rerank") return KEPT.none;
  if (kind === "embedding") return KEPT[log === "texts" ? "loneText" : "lone"];
  if (kind === "vectors") return KEPT.vector;
  return KEPT[kind === "texts" ? log : "scores"];
}

const lines = (...each) => each.join("\n");

function usual(model) {
  if (Object.hasOwn(USUAL, model.training.dataset)) return USUAL[model.training.dataset];
  const named = model.labels.filter((label) => !NUMBERED.test(label));
  return named.length ? named.slice(0, 4).map((label) => label.replaceAll("_", " ")) : CLINC;
}

function pairs(asked) {
  if (asked.length % 2) throw new Error("A pair is two lines: the last line has no second one.");
  return Array.from({ length: asked.length / 2 }, (_, i) => asked.slice(2 * i, 2 * i + 2));
}

function queried(asked) {
  if (asked.length < 2) throw new Error("Write the query on the first line, and at least one document below it.");
  return asked;
}

const classified = (asked) => ({ path: "predict", body: { inputs: asked, top_k: TOP, norm_stats: true } });
const compared = ([source, ...others]) => others.length
  ? { path: "similarity", body: { source_sentence: source, sentences: others } }
  : { path: "embed", body: { inputs: [source] } };

const ASKS = {
  texts: {
    label: "Text",
    help: (model) => `One line is one request; the model reads up to ${model.inputs.max_tokens} tokens of each. ${keptOf(model)}`,
    examples: (model) => [...usual(model), ...STRANGE],
    read: (asked) => asked,
    request: classified,
  },
  pairs: {
    label: "Text pairs",
    help: (model) => `Two lines are one pair, and one request; the model reads up to ${model.inputs.max_tokens} tokens of both. ${keptOf(model)}`,
    examples: () => [
      lines("how do i block my card", "where can i freeze my card"),
      lines("a man plays the guitar in a street", "nobody makes music"),
      lines(CLINC[2], CLINC[3]),
      lines(STRANGE[0], STRANGE[2]), lines(STRANGE[1], STRANGE[1]),
    ],
    read: pairs,
    request: classified,
  },
  embedding: {
    label: "Texts, one a line",
    help: (model) => `The other lines are compared with the first; one line alone shows its vector. The model reads up to ${model.inputs.max_tokens} tokens of each. ${keptOf(model)}`,
    examples: () => [
      lines(CLINC[0], "what is left on my savings account", CLINC[3], CLINC[2]),
      lines(CLINC[3], "someone took my credit card", "i lost my luggage on the train", CLINC[1]),
      CLINC[2], ...STRANGE,
    ],
    read: (asked) => asked,
    request: compared,
  },
  rerank: {
    label: "Texts: a query, then documents",
    help: (model) => `The first line is the query, every other one a document. The model reads up to ${model.inputs.max_tokens} tokens of the query and a document. ${keptOf(model)}`,
    examples: () => [CLINC[3], CLINC[0], ...STRANGE].map((query) => lines(query, ...DOCUMENTS)),
    read: queried,
    request: ([query, ...documents]) => ({ path: "rerank", body: { query, documents } }),
  },
};

export function kindOf({ task, inputs }) {
  if (inputs.kind === "tensors") return task === "classification" ? "tensors" : "vectors";
  if (Object.hasOwn(ASKS, task)) return task;
  if (inputs.kind !== "text") return inputs.kind;
  return inputs.pairs ? "pairs" : "texts";
}

ASKS.vectors = { request: (asked) => ({ path: "embed", body: { inputs: asked } }) }; // of a row of numbers

export const asksOf = (kind) => ASKS[kind] ?? { request: classified };
