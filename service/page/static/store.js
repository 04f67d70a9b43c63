// What all views share, and who wants to know when it changes.

const state = { served: [], chosen: {}, model: null, window: "auto", summary: null, connection: "connecting", refused: null, trouble: null };
const listeners = new Map();

export const store = {
  get: (name) => state[name],
  set(name, value) {
    state[name] = value;
    for (const listener of listeners.get(name) ?? []) listener(value);
  },
  on(name, listener) {
    if (!listeners.has(name)) listeners.set(name, new Set());
    listeners.get(name).add(listener);
  },
};
