// GET /events, followed for as long as the page is open. fetch in the place of EventSource: it can show an API key, and it
// tells why it was not let in.
import { about, ask } from "./api.js";
import { store } from "./store.js";

const SILENCE = 15_000; // milliseconds without any event, after which a connection counts as lost
const PAUSES = [500, 1000, 2000, 3000];

let current = null;

export function follow() {
  current?.abort();
  current = new AbortController();
  run(current, store.get("window"));
}

async function run(controller, window) {
  for (let failures = 0; !controller.signal.aborted; failures += 1) {
    try {
      await read(controller, window, () => { failures = 0; });
    } catch (error) {
      if (controller.signal.aborted) return;
      store.set("connection", error.status ? "refused" : "lost");
      if (error.status === 401) return; // goes on when a key is given
    }
    if (controller.signal.aborted) return;
    if (store.get("connection") === "live") store.set("connection", "lost");
    await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(failures, PAUSES.length - 1)]));
  }
}

async function read(controller, window, onEvent) {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  controller.signal.addEventListener("abort", stop);
  let timer = setTimeout(stop, SILENCE);
  try {
    const response = await ask(about("events", { window }), { signal: attempt.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE);
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        onEvent();
        if (controller.signal.aborted) return;
        store.set("summary", JSON.parse(event.slice(6)));
        if (store.get("connection") !== "live") store.set("connection", "live");
      }
    }
  } finally {
    clearTimeout(timer);
    controller.signal.removeEventListener("abort", stop);
  }
}
