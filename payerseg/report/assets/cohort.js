"use strict";
// The cohort page: a table, filters, charts, and ratings that live in the browser until they are saved.

const facts = JSON.parse(document.getElementById("facts").textContent);
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const KINDS = { ok: "ok", review: "needs review", no_spine: "no spine", failed: "failed", stale: "stale", unfinished: "not finished" };
const STORE = `payerseg-ratings:${facts.key}`;
const SEVERITIES = ["review", "warning", "info"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const chip = (kind, text) => element("span", { class: `chip ${kind}` }, text);
const count = (item, severity) => item.findings.filter((finding) => finding.severity === severity).length;

for (const item of facts.cases) item.outliers = facts.outliers.filter((outlier) => outlier.case_id === item.id);

// --- ratings ------------------------------------------------------------------------------------------

const ratings = { ...facts.ratings };
let changed = false;

function take(others) {
  for (const [id, rating] of Object.entries(others || {}))
    if (!ratings[id] || String(rating.at || "") >= String(ratings[id].at || "")) ratings[id] = rating;
}

function remember() {
  try {
    localStorage.setItem(STORE, JSON.stringify(ratings));
  } catch {
    // a browser without memory for files: what is rated still goes into the saved file
  }
}

try {
  take(JSON.parse(localStorage.getItem(STORE) || "{}"));
} catch {
  // nothing to take over
}

const ratingOf = (id) => ratings[id] || { rating: "", comment: "", at: "" };

function rate(id, change) {
  ratings[id] = { ...ratingOf(id), ...change, at: new Date().toISOString() };
  changed = true;
  remember();
}

function save() {
  const sorted = Object.fromEntries(Object.entries(ratings).sort(([a], [b]) => (a < b ? -1 : 1)));
  const text = JSON.stringify({ format: facts.format, ratings: sorted }, null, 1) + "\n";
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "ratings.json" });
  link.click();
  URL.revokeObjectURL(link.href);
  changed = false;
  drawCounts();
}

async function load(file) {
  let data = null;
  try {
    data = JSON.parse(await file.text());
  } catch {
    data = null;
  }
  const good = data && data.format === facts.format && data.ratings && typeof data.ratings === "object";
  if (!good) {
    one("#progress").textContent = `${file.name} is no ratings file of this page`;
    return;
  }
  take(data.ratings);
  remember();
  draw();
}

// --- table --------------------------------------------------------------------------------------------

const statusOrder = ["failed", "stale", "unfinished", "review", "no_spine", "ok"];
const COLUMNS = [
  { name: "", cell: thumb },
  { name: "Case", left: true, sort: (item) => item.id, cell: caseCell },
  { name: "Status", left: true, sort: (item) => statusOrder.indexOf(item.kind), cell: (item) => element("td", { class: "l" }, chip(item.kind, KINDS[item.kind])) },
  { name: "Findings", left: true, sort: (item) => -100 * count(item, "review") - count(item, "warning"), cell: findingsCell },
  { name: "Outliers", sort: (item) => -item.outliers.length, cell: (item) => element("td", {}, String(item.outliers.length || "–")) },
  { name: "Time s", sort: (item) => item.seconds, cell: (item) => element("td", {}, item.seconds ? item.seconds.toFixed(0) : "–") },
  { name: "Rating", left: true, sort: (item) => ["fail", "unsure", "", "pass"].indexOf(ratingOf(item.id).rating), cell: ratingCell },
];
let order = { column: 2, down: false };
let shown = [];
let current = null;

function thumb(item) {
  const cell = element("td", { class: "thumb" });
  if (item.picture) cell.append(element("img", { src: item.picture, alt: "" }));
  return cell;
}

function caseCell(item) {
  const about = item.n ? `${item.n} vertebrae ${item.range}` : "";
  return element("td", { class: "l id" }, item.id, element("small", {}, about));
}

function findingsCell(item) {
  const cell = element("td", { class: "l what" });
  const reviews = item.findings.filter((finding) => finding.severity === "review");
  const warnings = count(item, "warning");
  if (item.kind === "failed" || item.kind === "stale" || !item.n) cell.append(item.message);
  else if (reviews.length) cell.append(reviews[0].message, reviews.length > 1 ? ` +${reviews.length - 1}` : "");
  else if (warnings) cell.append(`${warnings} warning${warnings > 1 ? "s" : ""}`);
  return cell;
}

function ratingCell(item) {
  const { rating, comment } = ratingOf(item.id);
  const cell = element("td", { class: "l" });
  if (rating) cell.append(chip(rating, rating));
  if (comment) cell.append(element("span", { class: "comment" }, comment));
  return cell;
}

function fits(item) {
  const { rating, comment } = ratingOf(item.id);
  const [kind, rated] = [one("#kind").value, one("#rated").value];
  if (kind && item.kind !== kind) return false;
  if (rated && (rated === "unrated" ? rating : rating !== rated)) return false;
  const words = one("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [item.id, item.status, item.message, item.range, comment, ...item.findings.map((f) => f.message)].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function drawTable() {
  const { sort } = COLUMNS[order.column];
  const compare = (a, b) => {
    const [p, q] = [sort(a), sort(b)];
    const by = typeof p === "number" ? p - q : p.localeCompare(q, undefined, { numeric: true });
    return (order.down ? -by : by) || a.id.localeCompare(b.id, undefined, { numeric: true });
  };
  shown = facts.cases.filter(fits).sort(compare);
  one("#table tbody").replaceChildren(...shown.map(drawRow));
  all("#table th").forEach((head, k) => {
    if (k === order.column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  one("#shown").textContent = shown.length === facts.cases.length ? "" : `${shown.length} of ${facts.cases.length}`;
  const visible = new Set(shown.map((item) => item.id));
  for (const circle of all("#charts circle")) circle.classList.toggle("faded", !visible.has(circle.dataset.case));
}

function drawRow(item) {
  const row = element("tr", { "data-case": item.id }, ...COLUMNS.map((column) => column.cell(item)));
  row.classList.toggle("on", item === current);
  row.addEventListener("click", () => choose(item.id));
  row.addEventListener("dblclick", () => openPage(item));
  return row;
}

function redrawRow(item) {
  const row = all("#table tbody tr").find((found) => found.dataset.case === item.id);
  if (row) row.replaceWith(drawRow(item));
}

// --- one case -----------------------------------------------------------------------------------------

function choose(id) {
  current = facts.cases.find((item) => item.id === id) || null;
  for (const marked of all("#table tr.on, #charts circle.on")) marked.classList.remove("on");
  for (const marked of all("#table tbody tr, #charts circle")) if (marked.dataset.case === id) marked.classList.add("on");
  const row = one("#table tbody tr.on");
  if (row) row.scrollIntoView({ block: "nearest" });
  drawCase();
}

function drawCase() {
  const item = current;
  one(".triage").style.visibility = item ? "" : "hidden";
  if (!item) return;
  one(".picture").replaceChildren(item.picture ? element("img", { src: item.picture, alt: `spine of ${item.id}` }) : "no picture");
  const lines = SEVERITIES.flatMap((severity) => item.findings.filter((finding) => finding.severity === severity));
  const words = [
    element("h3", {}, item.page ? element("a", { href: item.page, target: "_blank" }, item.id) : item.id),
    element("div", {}, chip(item.kind, KINDS[item.kind]), item.kind === "failed" ? ` ${item.status}` : ""),
  ];
  if (item.message && !lines.length) words.push(element("p", {}, item.message));
  const list = lines.map((finding) => element("li", {}, chip(finding.severity, finding.severity), finding.message));
  for (const { level, quantity, value, median: usual } of item.outliers) {
    const [what, unit] = facts.quantities[quantity].split(", ");
    list.push(element("li", {}, chip("warning", "outlier"), `${level}: ${what.toLowerCase()} ${value.toFixed(1)} ${unit}, in others ${usual.toFixed(1)}.`));
  }
  one(".words").replaceChildren(...words, element("ul", {}, ...list));
  const { rating, comment } = ratingOf(item.id);
  for (const button of all("[data-rate]")) button.setAttribute("aria-pressed", button.dataset.rate === rating);
  if (document.activeElement !== one("#comment")) one("#comment").value = comment;
}

function openPage(item) {
  if (item && item.page) window.open(item.page, "_blank");
}

function give(rating, goOn) {
  if (!current) return;
  const item = current;
  rate(item.id, { rating });
  redrawRow(item);
  drawCounts();
  drawCase();
  const next = shown[shown.indexOf(item) + 1];
  if (goOn && next) choose(next.id);
}

// --- the rest -----------------------------------------------------------------------------------------

function drawCounts() {
  const rated = facts.cases.filter((item) => ratingOf(item.id).rating).length;
  one("#progress").textContent = `${rated} of ${facts.cases.length} rated`;
  one("#save").classList.toggle("changed", changed);
}

function drawCharts() {
  const strange = new Set(facts.outliers.map((o) => `${o.case_id}\n${o.level}\n${o.quantity}`));
  for (const [quantity, title] of Object.entries(facts.quantities)) {
    const points = facts.cases.flatMap((item) =>
      item.values
        .filter((row) => row[quantity] !== undefined)
        .map((row) => ({ case: item.id, level: row.level, value: row[quantity], outlier: strange.has(`${item.id}\n${row.level}\n${quantity}`) })),
    );
    if (points.length) one("#charts").append(element("div", {}, element("h3", {}, title), stripChart(points, facts.levels, choose)));
  }
  if (!one("#charts").children.length) {
    one("#plots").remove();
    return;
  }
  const n = facts.outliers.length;
  one("#outlier-count").textContent = n ? `${n} value${n > 1 ? "s" : ""} unlike other cases, ringed in red` : "";
}

function draw() {
  drawTable();
  drawCounts();
  drawCase();
}

const kinds = Object.keys(KINDS).filter((kind) => facts.cases.some((item) => item.kind === kind));
for (const kind of kinds) {
  const n = facts.cases.filter((item) => item.kind === kind).length;
  one("#counts").append(chip(kind, `${n} ${KINDS[kind]}`));
  one("#kind").append(element("option", { value: kind }, KINDS[kind]));
}
one("#table thead tr").append(
  ...COLUMNS.map((column, k) => {
    const head = element("th", { class: column.left ? "l" : null }, column.name);
    if (column.sort)
      head.addEventListener("click", () => {
        order = { column: k, down: order.column === k && !order.down };
        drawTable();
      });
    return head;
  }),
);
for (const name of ["#search", "#kind", "#rated"]) one(name).addEventListener("input", drawTable);
for (const button of all("[data-rate]"))
  button.addEventListener("click", () => give(ratingOf(current.id).rating === button.dataset.rate ? "" : button.dataset.rate, false));
one("#comment").addEventListener("input", () => {
  rate(current.id, { comment: one("#comment").value });
  redrawRow(current);
  drawCounts();
});
one("#save").addEventListener("click", save);
one("#load").addEventListener("click", () => one("#file").click());
one("#file").addEventListener("change", () => one("#file").files[0] && load(one("#file").files[0]).then(() => (one("#file").value = "")));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, button, summary")) return;
  const place = shown.indexOf(current);
  const go = { j: place + 1, ArrowDown: place + 1, k: place - 1, ArrowUp: place - 1 }[event.key];
  if (go !== undefined) {
    event.preventDefault();
    if (shown[go]) choose(shown[go].id);
  } else if (event.key === "p") give("pass", true);
  else if (event.key === "f") give("fail", true);
  else if (event.key === "u") give("unsure", true);
  else if (event.key === "x") give("", false);
  else if (event.key === "Enter" || event.key === "o") openPage(current);
  else if (event.key === "c" || event.key === "/") {
    event.preventDefault();
    one(event.key === "c" ? "#comment" : "#search").focus();
  }
});

drawCharts();
draw();
choose(shown.length ? shown[0].id : "");
