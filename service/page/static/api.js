// The service's answers. Addresses are relative, so the page also works behind a path of a proxy.
import { store } from "./store.js";

let key = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// as UTF-8, which the service reads: a header may hold bytes, and no other letters
export function useKey(text) {
  key = String.fromCharCode(...new TextEncoder().encode(text.replace(/\p{Cc}/gu, "").trim()));
  store.set("refused", null);
}

export const keyed = () => key !== "";

export async function ask(path, options = {}) {
  const used = key; // another one may be given before the answer comes
  const headers = used ? { Authorization: `Bearer ${used}` } : {};
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer. What you typed stays here; try again in a moment.");
  }
  if (response.ok) return response;
  if (response.status === 401 && used === key) store.set("refused", { wrong: used !== "" });
  const body = await response.json().catch(() => ({}));
  throw new Refused(response.status, body.error ?? `The service answered ${response.status}.`);
}

export function addressed(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// an address about the chosen model; about the default one where none was chosen
export const about = (path, query = {}) => addressed(path, { ...query, ...store.get("chosen") });

export const get = async (path) => (await ask(path)).json();

// phases: where the time went, as far as the service says it
export async function post(path, body) {
  const started = performance.now();
  const response = await ask(path, { method: "POST", body: JSON.stringify(body) });
  const answer = await response.json();
  return { answer, phases: phases(response.headers.get("server-timing")), total: performance.now() - started };
}

function phases(header) {
  const parts = (header ?? "").matchAll(/([a-z]+);dur=([\d.]+)/g);
  return Object.fromEntries([...parts].map(([, name, milliseconds]) => [name, Number(milliseconds)]));
}
