// A grid to draw on, for models that read a few steps of a few features: rows are steps, columns features, ink is 1.
import { h } from "./dom.js";

const BRUSH = [[0, 0, 1], [0, 1, 0.35], [1, 0, 0.35], [0, -1, 0.35], [-1, 0, 0.35]];

// rows of numbers; null where the text is something else
function numbersOf(text) {
  try {
    const rows = JSON.parse(text);
    return rows.every((row) => row.every((value) => typeof value === "number")) ? rows : null;
  } catch {
    return null;
  }
}

export function drawing(steps, features, box, done) {
  const values = Array.from({ length: steps }, () => Array(features).fill(0));
  const cells = values.map((row) => row.map(() => h("span")));
  let here = [0, 0];

  const grid = h("div", {
    class: "draw", tabindex: "0", role: "application", "aria-label": `Drawing, ${steps} steps by ${features} features. Arrow keys move, Space inks; the numbers below are the same.`,
    onpointerdown: (event) => { grid.setPointerCapture(event.pointerId); inkAt(event); },
    onpointermove: (event) => { if (event.buttons) inkAt(event); },
    onpointerup: done,
    onkeydown: onKey,
  }, cells);
  grid.style.setProperty("--wide", features);
  grid.style.setProperty("--high", steps);
  grid.style.gridTemplateColumns = `repeat(${features}, 1fr)`;

  function paint() {
    values.forEach((row, y) => row.forEach((value, x) => {
      cells[y][x].style.setProperty("--value", Math.min(Math.max(value, 0), 1));
      cells[y][x].classList.toggle("here", y === here[0] && x === here[1]);
    }));
  }

  function write() {
    paint();
    box.value = JSON.stringify(values);
  }

  // what is typed is drawn, where it fits
  function readBox() {
    const typed = numbersOf(box.value);
    if (typed === null || typed.length > steps || typed.some((row) => row.length > features)) return;
    values.forEach((row, y) => row.forEach((_, x) => { row[x] = typed[y]?.[x] ?? 0; }));
    paint();
  }

  function ink(y, x) {
    for (const [dy, dx, strength] of BRUSH) {
      const row = values[y + dy];
      if (row && x + dx in row) row[x + dx] = Math.max(row[x + dx], strength);
    }
    write();
  }

  function inkAt(event) {
    const { left, top, width, height } = grid.getBoundingClientRect();
    const x = Math.floor(((event.clientX - left) / width) * features), y = Math.floor(((event.clientY - top) / height) * steps);
    if (y in values && x in values[0]) ink(y, x);
  }

  function onKey(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (move) here = [Math.min(Math.max(here[0] + move[0], 0), steps - 1), Math.min(Math.max(here[1] + move[1], 0), features - 1)];
    else if (event.key === " ") ink(...here);
    else return;
    event.preventDefault();
    paint();
  }

  function set(at) {
    values.forEach((row, y) => row.forEach((_, x) => { row[x] = at(y, x); }));
    write();
  }

  const ring = (y, x) => {
    const far = Math.hypot((y - (steps - 1) / 2) / (steps * 0.42), (x - (features - 1) / 2) / (features * 0.3));
    return Math.round(100 * Math.max(0, 1 - 2.2 * Math.abs(far - 1))) / 100;
  };
  write();
  box.addEventListener("input", readBox);
  return h("div", { class: "grid" }, h("h3", {}, "Draw"), grid, h("div", { class: "chips" },
    h("button", { type: "button", class: "quiet", onclick: () => set(() => 0) }, "Clear"),
    h("button", { type: "button", class: "quiet", onclick: () => { set(ring); done(); } }, "A ring"),
    h("button", { type: "button", class: "quiet", onclick: () => { set(() => Math.round(100 * Math.random()) / 100); done(); } }, "Noise")));
}
