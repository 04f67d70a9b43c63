// Numbers, times and sentences as people read them.

const KNOWN = 0.4; // share of unlike requests, above which no accuracy is estimated
const SILENT = 5; // seconds without a word from a replica

export const WINDOWS = { auto: "Now", "5m": "5 min", "1h": "1 h", "24h": "24 h", all: "All" };
const OVER = { auto: "lately", "5m": "over the last 5 minutes", "1h": "over the last hour", "24h": "over the last 24 hours" };

export const count = (n) => (n ?? 0).toLocaleString("en");
export const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)} %`;

export function num(x, digits = 3) {
  if (x === null || x === undefined) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return x.toExponential(digits - 1).replace("e+", "e").replaceAll("-", "−");
  return Number(x.toPrecision(digits)).toString().replace("-", "−");
}

export const milliseconds = (x) => (x === null || x === undefined ? "–" : x < 1 ? `${Math.round(1000 * x)} µs` : `${num(x)} ms`);
export const clock = (iso, more = {}) => new Date(iso).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...more });
export const tick = (iso, seconds) => clock(iso, seconds < 60 ? { second: "2-digit" } : {}); // of slices of so many seconds

// two digits more where a score would look like its limit
export function ofLimit(score, threshold) {
  const digits = num(score) === num(threshold) && score !== threshold ? 5 : 3;
  return `${num(score, digits)} of ${num(threshold, digits)}`;
}

export function moment(iso) {
  const date = new Date(iso);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(iso) : `${date.getDate()} ${date.toLocaleDateString("en", { month: "short" })}, ${clock(iso)}`;
}

// Other people's encoders count their blocks in names of their own: encoder.layer.3.output.LayerNorm, layers.3.attn_norm.
export function blockOf(name) {
  const found = name.match(/^(?:(.*?)\.)?(\d+)\.(.+)$/);
  return found ? { stack: found[1] ?? "", number: found[2], rest: found[3] } : null;
}

const MOST = 21; // letters that fit beside a chart
const withoutNorm = (name) => name.replace(/[._](norm|layer_?norm)$/i, "") || name;
export const partName = (rest) => withoutNorm(rest).replace(/^attention\.output$/, "attention");

export function middle(text, most = MOST) {
  if (text.length <= most) return text;
  const kept = most - 1;
  return `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(-Math.floor(kept / 2))}`;
}

// networks count their norms, too
export const calledOf = (name) => (/^\d+$/.test(name) ? `norm ${name}` : name);

export function shortName(name) {
  if (calledOf(name) !== name) return calledOf(name);
  const block = blockOf(name);
  if (block) return middle(`block ${block.number} ${partName(block.rest).replace("_", "-")}`);
  return middle(name.replace(/\.(norm|layer_?norm)$/i, "").replace("final_norm", "final norm"));
}

// the two ends are no layers with a name of their own
const placeOf = (name) => (name === "input" || name === "output" ? `the ${name}` : calledOf(name));
const over = (summary) => OVER[summary.asked] ?? `since ${moment(summary.since)}`;

export function headline(summary) {
  const { verdict, window, needed } = summary;
  const requests = `${count(window.requests)} request${window.requests === 1 ? "" : "s"}`;
  switch (verdict.state) {
    case "ok": return `Ok ${over(summary)}, ${requests}`;
    case "mix_shift": return `Other topics ${verdict.since ? `since ${moment(verdict.since)}` : over(summary)}, each as it was`;
    case "drift": {
      const when = verdict.since ? `since ${moment(verdict.since)}` : over(summary);
      return `Drift ${when}, first at ${placeOf(verdict.first_layer)}`;
    }
    default:
      if (summary.input === undefined) return "This model cannot be judged";
      if (window.requests >= needed) return `${requests}, but they repeat each other: too few different ones to judge`;
      return `Not enough data yet: ${window.requests} of ${needed} requests`;
  }
}

const UNLIKE = {
  embedding: "Inputs look as usual, but their vectors lie elsewhere than the baseline's: look for new topics.",
  rerank: "Inputs look as usual, but their scores do not: look for queries that no document answers.",
};

// task: of the model that is served; only classifiers have classes
export function advice(summary, task) {
  const classes = task === "classification" || task === undefined;
  const { verdict } = summary;
  if (verdict.state === "ok") return "Nothing to do: if something went wrong, the traffic is not what did.";
  if (verdict.state === "mix_shift") return "Look at what is asked more often than before, and whether the model is right there.";
  if (verdict.state === "insufficient_data") {
    if (summary.input === undefined) return classes ? "Export it again with at least 60 validation inputs, and 4 of every class." : "Adopt it again with at least 300 inputs like its traffic's.";
    if (summary.window.requests < summary.requests) return "Choose a longer window, or wait.";
    return `Send it ${summary.window.requests >= summary.needed ? "different" : "some"} requests, or ask it something under Try it.`;
  }
  if (verdict.first_layer === "input") {
    const topics = summary.output?.state === "drift" || summary.unlikeness?.state === "drift"; // the model is unsure of them, too
    return `Inputs are longer, shorter or spelled otherwise than in training: look for a new client, a broken encoding, ${topics ? "another language, or new topics" : "or another language"}.`;
  }
  if (verdict.first_layer === "output" || verdict.classes?.length) {
    return UNLIKE[task] ?? "Inputs look as usual, but the model has grown unsure of them: look for requests that fit none of its classes.";
  }
  return `What is said has changed: read recent requests, look for new topics, then ${classes ? "retrain or extend the classes" : "take a new baseline, or another model"}.`;
}

export function detail(summary) {
  const { window, baseline } = summary;
  const source = `${count(baseline.requests)} requests of ${baseline.source === "live" ? `live traffic up to ${moment(baseline.taken)}` : "validation data"}`;
  return `${summary.verdict.sentence} Window: ${moment(window.from)} to ${moment(window.to)}. Baseline: ${source}.${together(summary.fleet)}`;
}

// who counted it, where several replicas share their statistics
function together(fleet) {
  if (!fleet) return "";
  const silent = fleet.others.filter(({ age_seconds: age }) => age > SILENT).map(({ name, heard }) => ` ${name} is silent since ${moment(heard)}.`);
  const alone = fleet.replicas === 1 ? "this replica, which hears of no other" : `${fleet.replicas} replicas`;
  return ` Counted by ${alone}.${silent.join("")}${fleet.trouble ? ` ${fleet.trouble}` : ""}`;
}

// what else there is to know of the window, for those who look closer
export function facts({ verdict }) {
  if (verdict.unlike === null || verdict.unlike === undefined) return [];
  const some = verdict.unlike >= 0.95 ? "Most" : `Very roughly ${percent(verdict.unlike, 0)}`;
  const said = [`${some} of the requests are unlike the baseline; from ${percent(verdict.would_show, 0)} on it would have shown.`];
  if (verdict.estimated_accuracy !== null) said.push(`Estimated accuracy on topics that the model knows: ${percent(verdict.estimated_accuracy, 0)}.`);
  else if (verdict.unlike > KNOWN) said.push("Too many requests are unlike the baseline to estimate how many answers are right.");
  if (verdict.classes.length) {
    said.push(`Unlike requests are mostly taken for ${verdict.classes.map(({ name, unlike, requests }) => `${name} (${percent(unlike, 0)} of ${count(requests)})`).join(", ")}.`);
  }
  if (verdict.most_repeated >= 0.1) said.push(`One input makes up ${percent(verdict.most_repeated, 0)}: all requests tell as much as ${count(Math.round(verdict.effective_requests))} different ones.`);
  return said;
}

export function overflow(summary) {
  const hit = summary.layers.find((layer) => layer.not_finite > 0);
  return hit ? `Overflow: ${count(hit.not_finite)} tokens were NaN or infinite where they entered ${hit.name}.` : "";
}

export const read = (tokens) => tokens === 1 ? "one row or token read" : `${count(tokens)} tokens read`;
