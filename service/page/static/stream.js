// GET /events, followed for as long as the page is open. fetch in the place of EventSource: it can show an API key, and it
// tells why it was not let in.
import { about, ask } from "./api.js";
import { store } from "./store.js";

const SILENCE = 15_000; // milliseconds without any event, after which a connection counts as lost
const PAUSES = [500, 1000, 2000, 3000];

let current = null;

// what was chosen before is followed no longer
export function stop() {
  current?.abort();
}

export function follow() {
  stop();
  current = new AbortController();
  run(current, store.get("window"));
}

async function run(controller, window) {
  for (let failures = 0; !controller.signal.aborted; failures += 1) {
    try {
      await read(controller, window, () => { failures = 0; });
    } catch (error) {
      if (controller.signal.aborted) return;
      tell(error);
      if (error.status === 401) return; // goes on when a key is given
    }
    if (controller.signal.aborted) return;
    if (store.get("connection") === "live") store.set("connection", "lost");
    await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(failures, PAUSES.length - 1)]));
  }
}

// why the service answers nothing of use; without a status there is no answer at all
export function tell({ status, message }) {
  const state = status === 401 ? "locked" : status ? "refused" : "lost";
  if (store.get("connection") !== state) store.set("connection", state);
  if (status && status !== 401) store.set("trouble", message);
}

// an event has a name only where there is no summary now
function take(event) {
  if (event.startsWith("data: ")) {
    store.set("summary", JSON.parse(event.slice(6)));
    if (store.get("connection") !== "live") store.set("connection", "live");
    return true;
  }
  const [, trouble] = event.match(/^event: trouble\ndata: (.*)$/) ?? [];
  if (trouble) tell({ status: 503, message: JSON.parse(trouble).error });
  return Boolean(trouble);
}

async function read(controller, window, onEvent) {
  const attempt = new AbortController();
  const leave = () => attempt.abort();
  controller.signal.addEventListener("abort", leave);
  let timer = setTimeout(leave, SILENCE);
  try {
    const response = await ask(about("events", { window }), { signal: attempt.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        if (controller.signal.aborted) return;
        if (!take(event)) continue; // a comment is no word
        onEvent();
        clearTimeout(timer);
        timer = setTimeout(leave, SILENCE);
      }
    }
  } finally {
    clearTimeout(timer);
    controller.signal.removeEventListener("abort", leave);
  }
}
