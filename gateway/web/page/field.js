// A field of dots, one for each visitor: whoever is connected is lit, and brightens for a moment
// when a broadcast reaches it. Dots lie as the seeds of a sunflower do, the first in the middle.

const levels = 24; // of brightness
const golden = Math.PI * (3 - Math.sqrt(5));
const calm = 340; // ms: broadcasts that follow closer do not pulse, they glitter

export class Field {
  constructor(canvas, count) {
    this.canvas = canvas;
    this.count = count;
    this.open = new Uint8Array(count);
    this.energy = new Float32Array(count); // 0 at rest, 1 just reached
    this.fade = Float32Array.from({ length: count }, (_, i) => 0.25 + 0.5 * noise(i)); // seconds
    this.flashedAt = 0;
    this.drawnAt = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.measure()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.measure());
  }

  // setOpen takes who is connected, as a bitmap.
  setOpen(bits) {
    for (let i = 0; i < this.count; i++) {
      const open = isSet(bits, i);
      if (open && !this.open[i]) this.energy[i] = 0.8;
      this.open[i] = open;
    }
    this.draw();
  }

  // flash takes who was reached. What follows fast glitters around a mean in place of flashing:
  // a large field must not flash more than three times a second (WCAG 2.3.1).
  flash(bits) {
    const now = performance.now();
    const pulse = now - this.flashedAt > calm;
    this.flashedAt = now;
    for (let i = 0; i < this.count; i++) {
      if (isSet(bits, i)) this.energy[i] = pulse ? 1 : Math.max(this.energy[i] * 0.6, 0.35 + 0.6 * Math.random());
    }
    this.draw();
  }

  clear() {
    this.open.fill(0);
    this.energy.fill(0);
    this.draw();
  }

  // measure fits the field into its element, and takes the colours that hold there.
  measure() {
    const { canvas } = this;
    const size = canvas.clientWidth;
    if (!size) return;
    const scale = Math.min(devicePixelRatio || 1, 2);
    canvas.width = canvas.height = Math.round(size * scale);
    const style = getComputedStyle(canvas);
    const colours = ["--dot-off", "--dot-rest", "--dot-lit"].map((name) => rgb(style.getPropertyValue(name)));
    const step = (canvas.width / 2) * 1.69 / Math.sqrt(this.count); // about the distance of neighbours
    this.cell = Math.ceil(step * 1.5);
    this.sprites = sprites(colours, this.cell, step);
    const radius = canvas.width / 2 - this.cell / 2;
    this.places = new Float32Array(2 * this.count);
    for (let i = 0; i < this.count; i++) {
      const r = radius * Math.sqrt((i + 0.5) / this.count);
      this.places[2 * i] = canvas.width / 2 + r * Math.cos(i * golden) - this.cell / 2;
      this.places[2 * i + 1] = canvas.height / 2 + r * Math.sin(i * golden) - this.cell / 2;
    }
    this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame((now) => this.paint(now));
  }

  paint(now) {
    this.frame = null;
    if (!this.sprites) return;
    const passed = Math.min(0.1, Math.max(0, (now - this.drawnAt) / 1000));
    this.drawnAt = now;
    const { canvas, cell, places, energy, open } = this;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    let moving = false;
    for (let i = 0; i < this.count; i++) {
      const level = open[i] ? 1 + Math.round((this.still.matches ? 0.4 : energy[i]) * (levels - 1)) : 0;
      context.drawImage(this.sprites, level * cell, 0, cell, cell, places[2 * i], places[2 * i + 1], cell, cell);
      energy[i] *= Math.exp(-passed / this.fade[i]);
      if (energy[i] > 0.02) moving = true;
    }
    if (moving && !this.still.matches) this.draw();
  }
}

// sprites draws a dot of each level beside each other: the first for nobody.
function sprites([off, rest, lit], cell, step) {
  const canvas = document.createElement("canvas");
  canvas.width = cell * (levels + 1);
  canvas.height = cell;
  const context = canvas.getContext("2d");
  for (let level = 0; level <= levels; level++) {
    const energy = level ? (level - 1) / (levels - 1) : 0;
    const colour = level ? rest.map((v, i) => v + (lit[i] - v) * energy) : off;
    context.fillStyle = `rgb(${colour.map(Math.round).join(" ")})`;
    context.beginPath();
    context.arc(cell * (level + 0.5), cell / 2, step * (level ? 0.29 + 0.12 * energy : 0.2), 0, 2 * Math.PI);
    context.fill();
  }
  return canvas;
}

const isSet = (bits, i) => (bits[i >> 3] >> (i & 7)) & 1;

// noise returns a number from 0 to 1 that is always the same for a dot.
const noise = (i) => (Math.imul(i + 1, 0x9e3779b1) >>> 0) / 2 ** 32;

// rgb reads a colour of the form #rrggbb.
function rgb(text) {
  return text.trim().match(/[0-9a-f]{2}/gi).map((v) => parseInt(v, 16));
}
