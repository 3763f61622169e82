"use strict";
// Three orthogonal planes through a reduced scan, on plain 2D canvases: no WebGL, no library, no network.
// World is LPS mm; `at` is the crosshair. Planes show the patient's right and front on the left, head on top.

const WINDOWS = { bone: [-250, 850], soft: [-160, 240], lung: [-1350, 150] };
const PLANES = [
  { name: "axial", axes: [0, 1, 2], flip: false, sides: ["R", "L", "A", "P"] },
  { name: "coronal", axes: [0, 2, 1], flip: true, sides: ["R", "L", "S", "I"] },
  { name: "sagittal", axes: [1, 2, 0], flip: true, sides: ["A", "P", "S", "I"] },
];

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function openScan(data) {
  const [scan, labels] = await Promise.all([unpack(data.scan), unpack(data.labels)]);
  const width = data.size[0];
  for (let row = 0; row < scan.length; row += width)
    for (let i = row + 1; i < row + width; i++) scan[i] += scan[i - 1]; // stored as differences
  return { ...data, scan, labels, strides: [1, width, width * data.size[1]] };
}

class Viewer {
  constructor(scan, canvases, { colors, rims }, onMove) {
    this.scan = scan;
    this.colors = colors;
    this.rims = rims; // of dark colours, which are lost on grey
    this.onMove = onMove;
    this.window = [...WINDOWS.bone];
    this.mask = "outline";
    this.zoom = 1;
    this.at = scan.origin.map((low, k) => low + ((scan.size[k] - 1) / 2) * scan.spacing[k]);
    this.views = PLANES.map((plane, k) => this.makeView(plane, canvases[k]));
    new ResizeObserver(() => this.draw()).observe(canvases[0]);
    this.draw();
  }

  makeView(plane, canvas) {
    const [u, v] = plane.axes;
    const small = document.createElement("canvas");
    [small.width, small.height] = [this.scan.size[u], this.scan.size[v]];
    const view = { ...plane, canvas, small, pixels: small.getContext("2d").createImageData(small.width, small.height) };
    canvas.dataset.plane = plane.name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${plane.name} plane`);
    canvas.tabIndex = 0;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this.grab(view, event));
    canvas.addEventListener("wheel", (event) => this.turnWheel(view, event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.pressKey(view, event));
    return view;
  }

  // --- what the user does ---------------------------------------------------------------------------

  grab(view, event) {
    view.canvas.setPointerCapture(event.pointerId);
    view.canvas.focus({ preventScroll: true });
    const [x0, y0, low, high] = [event.clientX, event.clientY, ...this.window];
    const fixed = { ...this.frame(view) }; // the picture must not run away under the pointer
    const move = (e) => {
      if (event.button === 2) {
        const width = Math.max(20, high - low + 4 * (e.clientX - x0));
        const middle = (low + high) / 2 + 2 * (e.clientY - y0);
        this.setWindow([middle - width / 2, middle + width / 2]);
      } else this.pick(view, e, fixed);
    };
    const drop = () => {
      view.canvas.removeEventListener("pointermove", move);
      view.canvas.removeEventListener("pointerup", drop);
      view.canvas.removeEventListener("pointercancel", drop);
      this.held = null;
      this.draw();
    };
    this.held = { view, frame: fixed };
    if (event.button !== 2) this.pick(view, event, fixed);
    view.canvas.addEventListener("pointermove", move);
    view.canvas.addEventListener("pointerup", drop);
    view.canvas.addEventListener("pointercancel", drop);
  }

  pick(view, event, frame) {
    const box = view.canvas.getBoundingClientRect();
    const ratio = view.canvas.width / box.width;
    const [u, v] = view.axes;
    const to = [...this.at];
    to[u] = frame.uAt((event.clientX - box.left) * ratio);
    to[v] = frame.vAt((event.clientY - box.top) * ratio);
    this.moveTo(to);
  }

  turnWheel(view, event) {
    event.preventDefault();
    if (event.ctrlKey || event.shiftKey || event.metaKey) {
      this.setZoom(this.zoom * Math.exp(-(event.deltaY || event.deltaX) / 300));
      return;
    }
    this.wheel = (this.wheel || 0) + event.deltaY * (event.deltaMode ? 30 : 1);
    const steps = Math.trunc(this.wheel / 30);
    this.wheel -= steps * 30;
    if (steps) this.step(view, steps);
  }

  step(view, steps) {
    const axis = view.axes[2];
    const to = [...this.at];
    to[axis] += (axis === 2 ? -steps : steps) * this.scan.spacing[axis];
    this.moveTo(to);
  }

  pressKey(view, event) {
    const steps = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5 }[event.key];
    if (steps === undefined) return;
    event.preventDefault();
    this.step(view, steps);
  }

  moveTo(mm) {
    const { origin, spacing, size } = this.scan;
    this.at = mm.map((value, k) => Math.min(Math.max(value, origin[k]), origin[k] + (size[k] - 1) * spacing[k]));
    this.draw();
    this.onMove(this.at);
  }

  setWindow(window) {
    this.window = window;
    this.draw();
  }

  setMask(mask) {
    this.mask = mask;
    this.draw();
  }

  setZoom(zoom) {
    this.zoom = Math.min(Math.max(zoom, 1), 12);
    this.draw();
  }

  // --- where things are -----------------------------------------------------------------------------

  index() {
    const { origin, spacing, size } = this.scan;
    return this.at.map((mm, k) => Math.min(Math.max(Math.round((mm - origin[k]) / spacing[k]), 0), size[k] - 1));
  }

  valueAt() {
    const place = this.index().reduce((sum, i, k) => sum + i * this.scan.strides[k], 0);
    return { hu: this.scan.levels[this.scan.scan[place]], label: this.scan.labels[place] };
  }

  // Maps between a canvas and mm: fitted at zoom 1, centred on the crosshair when zoomed in.
  frame(view) {
    if (this.held && this.held.view === view) return this.held.frame;
    const [u, v] = view.axes;
    const { origin, spacing, size } = this.scan;
    const { width, height } = view.canvas;
    const length = [u, v].map((k) => size[k] * spacing[k]);
    const scale = Math.min(width / length[0], height / length[1]) * this.zoom;
    const middle = [u, v].map((k, i) => {
      const low = origin[k] - spacing[k] / 2;
      const seen = (i ? height : width) / scale;
      if (seen >= length[i]) return low + length[i] / 2;
      return Math.min(Math.max(this.at[k], low + seen / 2), low + length[i] - seen / 2);
    });
    const sign = view.flip ? -1 : 1;
    return {
      scale,
      xOf: (mm) => width / 2 + (mm - middle[0]) * scale,
      yOf: (mm) => height / 2 + sign * (mm - middle[1]) * scale,
      uAt: (x) => middle[0] + (x - width / 2) / scale,
      vAt: (y) => middle[1] + (sign * (y - height / 2)) / scale,
    };
  }

  // --- drawing --------------------------------------------------------------------------------------

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      for (const view of this.views) this.drawView(view);
    });
  }

  drawView(view) {
    const ratio = window.devicePixelRatio || 1;
    const { canvas } = view;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    const frame = this.frame(view);
    const start = this.index()[view.axes[2]] * this.scan.strides[view.axes[2]];
    this.drawScan(view, pen, frame, start);
    if (this.mask !== "off") this.drawMask(view, pen, frame, start);
    this.drawCross(view, pen, frame, ratio);
  }

  drawScan(view, pen, frame, start) {
    const { scan, strides, levels, size, origin, spacing } = this.scan;
    const [u, v] = view.axes;
    const [low, high] = this.window;
    const grey = levels.map((hu) => Math.min(255, Math.max(0, ((hu - low) / (high - low)) * 255)) | 0);
    const out = new Uint32Array(view.pixels.data.buffer);
    const rows = size[v];
    for (let row = 0, k = 0; row < rows; row++) {
      let place = start + (view.flip ? rows - 1 - row : row) * strides[v];
      for (let column = 0; column < size[u]; column++, place += strides[u]) {
        out[k++] = 0xff000000 | (grey[scan[place]] * 0x010101);
      }
    }
    view.small.getContext("2d").putImageData(view.pixels, 0, 0);
    const left = frame.xOf(origin[u] - spacing[u] / 2);
    const top = frame.yOf(view.flip ? origin[v] + (rows - 0.5) * spacing[v] : origin[v] - spacing[v] / 2);
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(view.small, left, top, size[u] * spacing[u] * frame.scale, rows * spacing[v] * frame.scale);
  }

  // Outlines by marching squares: corners of voxels are cut, so that they look like what they mean.
  drawMask(view, pen, frame, start) {
    const { labels, strides, size, origin, spacing } = this.scan;
    const [u, v] = view.axes;
    const [du, dv] = [strides[u], strides[v]];
    const lines = new Map();
    const x = (i) => frame.xOf(origin[u] + i * spacing[u]);
    const y = (j) => frame.yOf(origin[v] + j * spacing[v]);
    for (let j = 0; j < size[v] - 1; j++) {
      let place = start + j * dv;
      for (let i = 0; i < size[u] - 1; i++, place += du) {
        const cell = [labels[place], labels[place + du], labels[place + du + dv], labels[place + dv]];
        if (cell[0] === cell[1] && cell[1] === cell[2] && cell[2] === cell[3]) continue;
        for (const label of new Set(cell)) if (label) addLines(lines, label, cell, i, j, x, y);
      }
    }
    if (this.mask === "fill") this.fillMask(view, pen, frame, start);
    const width = Math.max(1.2, 1.4 * (window.devicePixelRatio || 1));
    pen.lineWidth = 2.2 * width;
    for (const [label, path] of lines) {
      if (!this.rims[label]) continue;
      pen.strokeStyle = this.rims[label];
      pen.stroke(path);
    }
    pen.lineWidth = width;
    for (const [label, path] of lines) {
      pen.strokeStyle = this.colors[label] || "#888";
      pen.stroke(path);
    }
  }

  fillMask(view, pen, frame, start) {
    const { labels, strides, size, origin, spacing } = this.scan;
    const [u, v] = view.axes;
    pen.globalAlpha = 0.42;
    const [w, h] = [spacing[u] * frame.scale, spacing[v] * frame.scale];
    for (let j = 0; j < size[v]; j++) {
      for (let i = 0; i < size[u]; i++) {
        const label = labels[start + j * strides[v] + i * strides[u]];
        if (!label) continue;
        let n = 1;
        while (i + n < size[u] && labels[start + j * strides[v] + (i + n) * strides[u]] === label) n++;
        pen.fillStyle = this.colors[label] || "#888";
        const top = frame.yOf(origin[v] + j * spacing[v]) - h / 2;
        pen.fillRect(frame.xOf(origin[u] + (i - 0.5) * spacing[u]), Math.round(top), n * w, Math.round(top + h) - Math.round(top));
        i += n - 1;
      }
    }
    pen.globalAlpha = 1;
  }

  drawCross(view, pen, frame, ratio) {
    const [x, y] = [frame.xOf(this.at[view.axes[0]]), frame.yOf(this.at[view.axes[1]])];
    const { width, height } = view.canvas;
    const gap = 9 * ratio;
    pen.strokeStyle = "#6cc7ffa0";
    pen.lineWidth = ratio;
    pen.beginPath();
    for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      pen.moveTo(a, b);
      pen.lineTo(c, d);
    }
    pen.stroke();
    pen.fillStyle = "#9aa6b6";
    pen.font = `${12 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
    const edge = 8 * ratio;
    const places = [[edge, height / 2, "left"], [width - edge, height / 2, "right"], [width / 2, edge * 1.9, "center"], [width / 2, height - edge, "center"]];
    view.sides.forEach((side, k) => {
      pen.textAlign = places[k][2];
      pen.fillText(side, places[k][0], places[k][1]);
    });
  }
}

function addLines(lines, label, cell, i, j, x, y) {
  if (!lines.has(label)) lines.set(label, new Path2D());
  const path = lines.get(label);
  const inside = cell.map((value) => value === label);
  const middles = [[i + 0.5, j], [i + 1, j + 0.5], [i + 0.5, j + 1], [i, j + 0.5]];
  const crossed = [0, 1, 2, 3].filter((k) => inside[k] !== inside[(k + 1) % 4]);
  for (let k = 0; k + 1 < crossed.length; k += 2) {
    const [a, b] = [middles[crossed[k]], middles[crossed[k + 1]]];
    path.moveTo(x(a[0]), y(a[1]));
    path.lineTo(x(b[0]), y(b[1]));
  }
}
