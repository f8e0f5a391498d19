"use strict";
// Viewer of registered pairs: three linked planes through volumes.

const CHECKS = 8; // squares of the checkerboard along the longer side

class Viewer {
  constructor(element, images) {
    this.element = element;
    this.view = JSON.parse(element.dataset.view);
    this.layers = {};
    for (const image of images) {
      this.layers[image.dataset.layer] = readMosaic(image, this.view.shape, this.view.columns);
    }
    this.field = readField(this.view.grid.disp);
    this.position = this.view.shape.map((size) => Math.floor(size / 2));
    this.figures = [...element.querySelectorAll("figure.plane")];
    this.figures.forEach((figure, index) => this.connect(figure, this.view.planes[index]));
    element.querySelector(".controls").addEventListener("input", () => this.draw());
    this.connectButton(".next-fold", this.folds());
    this.connectButton(".next-landmark", this.landmarks().map((row) => row.slice(0, 3)));
    new ResizeObserver(() => this.draw()).observe(element);
    window.addEventListener("beforeprint", () => this.draw());
    this.draw();
  }

  get mode() { return this.element.querySelector(".mode").value; }
  get divide() { return Number(this.element.querySelector(".divide").value) / 100; }
  shows(name) { return this.element.querySelector(`[data-overlay="${name}"]`)?.checked ?? false; }

  connect(figure, plane) {
    const canvas = figure.querySelector("canvas"), slider = figure.querySelector("input");
    slider.max = this.view.shape[plane.across] - 1;
    figure.style.flex = this.view.shape[plane.x] * this.view.spacing[plane.x]; // one scale for all
    const scroll = (slice) => {
      this.position[plane.across] = Math.min(Math.max(slice, 0), Number(slider.max));
      this.draw();
    };
    slider.addEventListener("input", () => scroll(Number(slider.value)));
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      this.pick(plane, plane.x, plane.flipX, (event.clientX - box.left) / box.width);
      this.pick(plane, plane.y, plane.flipY, (event.clientY - box.top) / box.height);
      this.draw();
    };
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("pointermove", (event) => { if (event.buttons === 1) point(event); });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // so that the page can still be scrolled
      event.preventDefault();
      scroll(this.position[plane.across] + Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowRight: 1, PageUp: 10,
        ArrowDown: -1, ArrowLeft: -1, PageDown: -10 };
      if (!(event.key in step)) return;
      event.preventDefault();
      scroll(this.position[plane.across] + step[event.key]);
    });
  }

  connectButton(selector, places) {
    const button = this.element.querySelector(selector);
    let next = 0;
    button?.addEventListener("click", () => {
      this.position = places[next++ % places.length].map((value, axis) =>
        Math.min(Math.max(Math.round(value), 0), this.view.shape[axis] - 1));
      this.draw();
    });
  }

  pick(plane, axis, flip, fraction) {
    const size = this.view.shape[axis];
    const index = Math.min(Math.max(Math.floor(fraction * size), 0), size - 1);
    this.position[axis] = flip ? size - 1 - index : index;
  }

  folds() { // one place a slice of axis 2, those with the most folds first
    const [ni, nj, nk] = this.view.shape, determinants = this.layers.volume, found = [];
    for (let k = 0; k < nk; k++) {
      let count = 0, first = 0;
      for (let n = k * ni * nj; n < (k + 1) * ni * nj; n++) {
        if (determinants[n] === FOLD && count++ === 0) first = n - k * ni * nj;
      }
      if (count) found.push([count, [first % ni, Math.floor(first / ni), k]]);
    }
    return found.sort((a, b) => b[0] - a[0]).map(([, place]) => place);
  }

  landmarks() { // the worst first
    return [...this.view.landmarks].sort((a, b) => b[6] - a[6]);
  }

  index([i, j, k]) { return (k * this.view.shape[1] + j) * this.view.shape[0] + i; }

  draw() {
    this.figures.forEach((figure, index) => {
      const plane = this.view.planes[index], slice = this.position[plane.across];
      const size = this.view.shape[plane.across];
      figure.querySelector("input").value = slice;
      figure.querySelector(".slice").textContent = `${slice + 1} of ${size}`;
      const mode = this.element.querySelector(".mode").selectedOptions[0].textContent;
      const canvas = figure.querySelector("canvas");
      canvas.setAttribute("aria-label", `${plane.name} slice ${slice + 1} of ${size}: ${mode}`);
      this.drawPlane(canvas, plane);
    });
    this.describe();
  }

  drawPlane(canvas, plane) {
    const [nx, ny] = [this.view.shape[plane.x], this.view.shape[plane.y]];
    const [dx, dy] = [this.view.spacing[plane.x], this.view.spacing[plane.y]];
    const width = canvas.clientWidth, height = (width * ny * dy) / (nx * dx);
    if (!width) return;
    const ratio = Math.max(window.devicePixelRatio || 1, 1);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.aspectRatio = `${nx * dx} / ${ny * dy}`;
    const context = canvas.getContext("2d");
    context.drawImage(this.pixels(plane, nx, ny), 0, 0, canvas.width, canvas.height);
    const sx = canvas.width / nx, sy = canvas.height / ny;
    const toX = (v) => ((plane.flipX ? nx - 1 - v : v) + 0.5) * sx;
    const toY = (v) => ((plane.flipY ? ny - 1 - v : v) + 0.5) * sy;
    context.lineWidth = 1.2 * ratio;
    if (this.mode === "volume") this.markFolds(context, plane, nx, ny, sx, sy);
    if (this.shows("grid")) this.drawGrid(context, plane, toX, toY);
    if (this.shows("labels")) {
      this.drawOutlines(context, "fixed_labels", "#ffd400", plane, nx, ny, sx, sy);
      this.drawOutlines(context, "warped_labels", "#00d5ff", plane, nx, ny, sx, sy);
    }
    if (this.shows("landmarks")) this.drawLandmarks(context, plane, toX, toY, ratio);
    this.drawCross(context, plane, toX, toY, ratio);
    this.drawEnds(context, plane, ratio);
  }

  pixels(plane, nx, ny) {
    const image = new ImageData(nx, ny), place = [...this.position];
    const { fixed, moving, warped, volume } = this.layers;
    const square = Math.max(nx, ny) / CHECKS, mode = this.mode, divide = this.divide * nx;
    for (let y = 0; y < ny; y++) {
      place[plane.y] = plane.flipY ? ny - 1 - y : y;
      for (let x = 0; x < nx; x++) {
        place[plane.x] = plane.flipX ? nx - 1 - x : x;
        const n = this.index(place);
        let colour;
        if (mode === "volume") colour = volumeColour(volume[n]);
        else if (mode === "overlay") colour = [fixed[n], warped[n], fixed[n]];
        else if (mode === "before") colour = [fixed[n], moving[n], fixed[n]];
        else {
          const odd = (Math.floor(x / square) + Math.floor(y / square)) % 2;
          const second = mode === "checks" ? odd : mode === "slider" ? x >= divide : false;
          const grey = mode === "warped" || second ? warped[n] : mode === "moving" ? moving[n] : fixed[n];
          colour = [grey, grey, grey];
        }
        image.data.set([...colour, 255], 4 * (y * nx + x));
      }
    }
    const canvas = document.createElement("canvas");
    canvas.width = nx;
    canvas.height = ny;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  at(layer, plane, x, y, nx, ny) { // value at a pixel of the picture
    const place = [...this.position];
    place[plane.x] = plane.flipX ? nx - 1 - x : x;
    place[plane.y] = plane.flipY ? ny - 1 - y : y;
    return this.layers[layer][this.index(place)];
  }

  markFolds(context, plane, nx, ny, sx, sy) {
    context.strokeStyle = "#ff00d4";
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        if (this.at("volume", plane, x, y, nx, ny) === FOLD) {
          context.strokeRect(x * sx, y * sy, sx, sy);
        }
      }
    }
  }

  drawOutlines(context, layer, colour, plane, nx, ny, sx, sy) {
    if (!(layer in this.layers)) return;
    context.strokeStyle = colour;
    context.beginPath();
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        const label = this.at(layer, plane, x, y, nx, ny);
        if (x + 1 < nx && label !== this.at(layer, plane, x + 1, y, nx, ny)) {
          context.moveTo((x + 1) * sx, y * sy);
          context.lineTo((x + 1) * sx, (y + 1) * sy);
        }
        if (y + 1 < ny && label !== this.at(layer, plane, x, y + 1, nx, ny)) {
          context.moveTo(x * sx, (y + 1) * sy);
          context.lineTo((x + 1) * sx, (y + 1) * sy);
        }
      }
    }
    context.stroke();
  }

  displacement(component, place) { // at a node of the grid, between two nodes along one axis
    const { shape, step, scale } = this.view.grid;
    const nodes = place.map((value, axis) => Math.min(value / step, shape[axis] - 1));
    const low = nodes.map(Math.floor), weights = nodes.map((value, axis) => value - low[axis]);
    const at = (i, j, k) =>
      this.field[((component * shape[2] + k) * shape[1] + j) * shape[0] + i] * scale;
    const axis = weights.findIndex((weight) => weight > 0), first = at(...low);
    if (axis < 0) return first;
    const high = low.map((value, other) => (other === axis ? value + 1 : value));
    return first + weights[axis] * (at(...high) - first);
  }

  drawGrid(context, plane, toX, toY) {
    const { shape, step } = this.view.grid, place = [...this.position];
    const node = (a, b) => {
      place[plane.x] = a * step;
      place[plane.y] = b * step;
      const x = place[plane.x] + this.displacement(plane.x, place);
      const y = place[plane.y] + this.displacement(plane.y, place);
      return [toX(x), toY(y)];
    };
    context.strokeStyle = "#7fd07f";
    context.beginPath();
    const line = (count, at) => {
      for (let n = 0; n < count; n++) n ? context.lineTo(...at(n)) : context.moveTo(...at(n));
    };
    for (let a = 0; a < shape[plane.x]; a++) line(shape[plane.y], (n) => node(a, n));
    for (let b = 0; b < shape[plane.y]; b++) line(shape[plane.x], (n) => node(n, b));
    context.stroke();
  }

  drawLandmarks(context, plane, toX, toY, ratio) {
    const shown = this.landmarks().filter((row) =>
      Math.abs(row[plane.across] - this.position[plane.across]) <= 1);
    context.strokeStyle = context.fillStyle = "#ff9d2e";
    for (const row of shown) {
      const [x, y] = [toX(row[plane.x]), toY(row[plane.y])];
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(toX(row[plane.x] + row[3 + plane.x]), toY(row[plane.y] + row[3 + plane.y]));
      context.stroke();
      context.beginPath();
      context.arc(x, y, 3 * ratio, 0, 2 * Math.PI);
      context.fill();
    }
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    const taken = [], height = 13 * ratio;
    for (const row of shown) { // a number only where it covers none of a larger error
      const text = row[6].toFixed(1), width = context.measureText(text).width + 2 * ratio;
      const [x, y] = [toX(row[plane.x]) + 5 * ratio, toY(row[plane.y]) - 4 * ratio];
      if (taken.some(([left, base, other]) =>
        x < left + other && left < x + width && Math.abs(y - base) < height)) continue;
      taken.push([x, y, width]);
      this.write(context, text, x, y, ratio);
    }
  }

  write(context, text, x, y, ratio) { // with a dark edge, legible on bright tissue
    context.save();
    [context.lineWidth, context.lineJoin, context.strokeStyle] = [2 * ratio, "round", "#000"];
    context.strokeText(text, x, y);
    context.restore();
    context.fillText(text, x, y);
  }

  drawCross(context, plane, toX, toY, ratio) {
    const [x, y] = [toX(this.position[plane.x]), toY(this.position[plane.y])];
    context.lineWidth = ratio;
    context.strokeStyle = "rgba(255, 90, 90, .7)";
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, context.canvas.height);
    context.moveTo(0, y);
    context.lineTo(context.canvas.width, y);
    context.stroke();
  }

  drawEnds(context, plane, ratio) {
    const [left, right, top, bottom] = plane.ends, { width, height } = context.canvas;
    context.font = `${13 * ratio}px system-ui, sans-serif`;
    context.fillStyle = "#ffd400";
    context.textAlign = "center";
    this.write(context, left, 10 * ratio, height / 2, ratio);
    this.write(context, right, width - 10 * ratio, height / 2, ratio);
    this.write(context, top, width / 2, 15 * ratio, ratio);
    this.write(context, bottom, width / 2, height - 6 * ratio, ratio);
    context.textAlign = "start";
  }

  describe() {
    const n = this.index(this.position), value = this.layers.volume[n];
    const change = 2 ** (((value - 128) / 127) * this.view.range);
    const words = [value === FOLD ? "fold" : `volume change ${change.toFixed(2)}`];
    for (const [layer, side] of [["fixed_labels", "fixed"], ["warped_labels", "warped"]]) {
      const label = this.layers[layer]?.[n];
      if (label) words.push(`${side}: ${this.view.labels[label - 1]}`);
    }
    const near = this.landmarks().find((row) =>
      this.position.every((value, axis) => Math.abs(value - row[axis]) <= 1));
    if (near) words.push(`landmark error ${near[6].toFixed(1)} mm`);
    this.element.querySelector("output").textContent = `At the cross: ${words.join("; ")}.`;
  }
}

async function open(details) {
  const element = details.querySelector(".viewer");
  if (!element || element.dataset.ready) return;
  element.dataset.ready = "loading";
  const images = [...element.querySelectorAll("img.layer")];
  await Promise.all(images.map((image) => image.decode()));
  new Viewer(element, images);
  element.dataset.ready = "true";
}

for (const details of document.querySelectorAll("details.pair")) {
  if (details.open) open(details);
  details.addEventListener("toggle", () => { if (details.open) open(details); });
}
