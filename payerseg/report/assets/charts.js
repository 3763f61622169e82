"use strict";
// Strips of single values by vertebra level, one dot per case, as SVG.

const CHART = { width: 420, height: 190, left: 30, right: 6, top: 8, bottom: 22 };

function svgElement(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function niceSteps(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) ticks.push(value);
  return ticks;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// A steady place beside the middle, so that equal values do not hide each other.
const scatter = (k) => ((k * 0.618034) % 1) - 0.5;

// points: [{case, level, value, outlier}]; levels: name → colour, head to foot.
function stripChart(points, levels, choose) {
  const { width, height, left, right, top, bottom } = CHART;
  const present = Object.keys(levels).filter((level) => points.some((point) => point.level === level));
  const values = points.map((point) => point.value);
  const [low, high] = [Math.min(0, ...values), Math.max(1, ...values) * 1.04];
  const step = (width - left - right) / Math.max(present.length, 1);
  const x = (level, shift) => left + (present.indexOf(level) + 0.5 + shift) * step;
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of niceSteps(low, high)) {
    svg.append(svgElement("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(svgElement("text", { x: left - 4, y: y(tick) + 3, "text-anchor": "end" }, String(+tick.toFixed(6))));
  }
  const every = Math.ceil(present.length / 13);
  present.forEach((level, k) => {
    const own = points.filter((point) => point.level === level);
    if (k % every === 0) svg.append(svgElement("text", { x: x(level, 0), y: height - 8, "text-anchor": "middle" }, level));
    own.forEach((point, n) => {
      const title = svgElement("title", {}, `${point.case} ${level}: ${point.value.toFixed(1)}${point.outlier ? ", unlike the others" : ""}`);
      const circle = svgElement("circle", { cx: x(level, scatter(n) * 0.55), cy: y(point.value), r: 2.9, fill: levels[level], "data-case": point.case }, title);
      circle.classList.toggle("out", point.outlier);
      circle.addEventListener("click", () => choose(point.case));
      svg.append(circle);
    });
    if (own.length > 2) {
      const at = y(median(own.map((point) => point.value)));
      svg.append(svgElement("line", { class: "median", x1: x(level, -0.36), x2: x(level, 0.36), y1: at, y2: at }));
    }
  });
  for (const circle of svg.querySelectorAll("circle.out")) svg.append(circle); // on top
  return svg;
}
