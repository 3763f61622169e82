"use strict";
// The case page: rows, curved views and planes point at one place.

const facts = JSON.parse(document.getElementById("facts").textContent);
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const ZOOM_MM = 150; // what a plane shows around a vertebra that was chosen
let viewer = null;

function choose(level) {
  for (const item of all("[data-level]")) item.classList.toggle("on", item.dataset.level === level);
  const known = facts.levels[level];
  if (!known) return;
  if (viewer) {
    const height = viewer.scan.size[2] * viewer.scan.spacing[2];
    viewer.setZoom(Math.max(viewer.zoom, height / ZOOM_MM));
    viewer.moveTo(known.position_mm);
  } else showPlace(known.position_mm);
  const row = one(`tr[data-level="${level}"]`);
  if (row) row.scrollIntoView({ block: "nearest" });
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a, b) => a.map((value, k) => value - b[k]);

function showPlace(mm) {
  for (const view of facts.curved) {
    let [best, row] = [Infinity, 0];
    view.points.forEach((point, k) => {
      const gap = minus(mm, point);
      const distance = dot(gap, gap);
      if (distance < best) [best, row] = [distance, k];
    });
    const column = view.middle + dot(minus(mm, view.points[row]), view.axes[row]) / view.pixel_mm;
    const svg = one(`svg[data-view="${view.name}"]`);
    svg.querySelector(".here.row").setAttribute("transform", `translate(0 ${row + 0.5})`);
    svg.querySelector(".here.column").setAttribute("transform", `translate(${column + 0.5} 0)`);
  }
}

function tell(mm) {
  showPlace(mm);
  const { hu, label } = viewer.valueAt();
  const name = facts.names[label];
  const place = `${mm.map((value) => value.toFixed(0)).join(", ")} mm`;
  one("#place").innerHTML = "";
  one("#place").append(Object.assign(document.createElement("b"), { textContent: name || "" }), ` ${hu} HU · ${place}`);
}

for (const view of facts.curved) {
  const svg = one(`svg[data-view="${view.name}"]`);
  const jump = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const row = Math.min(Math.max(Math.round(point.y - 0.5), 0), view.points.length - 1);
    const offset = (point.x - 0.5 - view.middle) * view.pixel_mm;
    const mm = view.points[row].map((value, k) => value + offset * view.axes[row][k]);
    if (viewer) viewer.moveTo(mm);
    else showPlace(mm);
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.target.closest(".mark") || event.button) return;
    jump(event);
    svg.setPointerCapture(event.pointerId);
    svg.addEventListener("pointermove", jump);
    svg.addEventListener("pointerup", () => svg.removeEventListener("pointermove", jump), { once: true });
  });
}

document.addEventListener("click", (event) => {
  const item = event.target.closest("[data-level]");
  if (item) choose(item.dataset.level);
});

const MASKS = ["outline", "fill", "off"];
function setMask(mask) {
  if (viewer) viewer.setMask(mask);
  for (const picture of all(".overlay")) picture.style.display = mask === "off" ? "none" : "";
  press("mask", mask);
  document.body.dataset.shown = mask;
}

function press(group, value) {
  for (const button of all(`button[data-${group}]`)) button.setAttribute("aria-pressed", button.dataset[group] === value);
}

function setPreset(name) {
  if (viewer) viewer.setWindow([...WINDOWS[name]]);
  press("window", name);
}

for (const button of all("button[data-mask]")) button.addEventListener("click", () => setMask(button.dataset.mask));
for (const button of all("button[data-window]")) button.addEventListener("click", () => setPreset(button.dataset.window));
for (const button of all("button[data-zoom]"))
  button.addEventListener("click", () => viewer && viewer.setZoom(button.dataset.zoom === "0" ? 1 : viewer.zoom * Number(button.dataset.zoom)));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const rows = all("tr[data-level]");
  const now = rows.findIndex((row) => row.classList.contains("on"));
  const next = { j: now + 1, k: Math.max(now - 1, 0) }[event.key];
  if (next !== undefined && rows[next]) choose(rows[next].dataset.level);
  else if (event.key === "m") setMask(MASKS[(MASKS.indexOf(document.body.dataset.shown) + 1) % 3]);
  else if ("123".includes(event.key)) setPreset(Object.keys(WINDOWS)[event.key - 1]);
  else if (event.key === "f" && viewer) viewer.setZoom(1);
  else if (event.key === "Enter" && event.target.dataset.level) choose(event.target.dataset.level);
});

async function openViewer() {
  if (!facts.viewer) return;
  const wait = one(".wait");
  if (!("DecompressionStream" in window)) {
    wait.textContent = "The viewer needs a browser of 2023 or later (Chrome 80, Firefox 113, Safari 16.4). The curved views and the table work without it.";
    return;
  }
  const scan = await openScan(facts.viewer);
  facts.viewer = null; // the packed copy is no longer needed
  viewer = new Viewer(scan, all(".planes canvas"), facts, tell);
  wait.remove();
  const first = facts.middle && facts.levels[facts.middle];
  if (first) viewer.moveTo(first.position_mm);
  document.body.dataset.viewer = "ready";
}

setMask("outline");
press("window", "bone");
openViewer();
