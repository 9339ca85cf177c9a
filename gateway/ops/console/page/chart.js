// A chart: a card with a title, its newest figure, the lines, and what each line says. uPlot draws
// the lines on a canvas; the figures are text, which says the same.

/* global uPlot */
import { el, fill, write } from "./dom.js";
import * as units from "./units.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const binary = Array.from({ length: 50 }, (_, i) => 2 ** i);

// Chart draws some columns of a history.
//   title, unit: what it shows, and how a figure of it is written
//   lines: [{key, label}], or a function of the history and a time that returns them
//   figure: of a sample, the figure that counts; note: what is said beside it
export class Chart {
  constructor({ title, unit, lines, figure, note }) {
    Object.assign(this, { title, unit, lines, figure, note });
    this.big = el("span", { class: "big" });
    this.side = el("span", { class: "note" });
    this.plot = el("div", { class: "plot", "aria-hidden": "true" });
    this.legend = el("ul", { class: "legend", "aria-label": `${title}: lines` });
    this.element = el("section", { class: "card chart", "aria-label": title },
      el("h2", {}, title), el("p", { class: "figure" }, this.big, this.side), this.plot, this.legend);
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  // draw shows what a history has of the last range seconds before a time.
  draw(history, now, range) {
    Object.assign(this, { history, now, range });
    const lines = typeof this.lines === "function" ? this.lines(history, now - range) : this.lines;
    const keys = lines.map((l) => l.key).join();
    if (keys !== this.keys || !this.uplot) {
      Object.assign(this, { keys, shown: lines });
      this.build();
    }
    this.shown = lines;
    // What is shown grows until it is the whole range.
    this.span = Math.min(range, Math.max(60, now - (history.times[0] ?? now)));
    const begin = Math.max(0, history.times.findIndex((t) => t >= now - range) - 1);
    this.times = history.times.slice(begin);
    this.values = lines.map((l) => history.column(l.key).slice(begin));
    this.uplot?.setData([this.times, ...this.values]);
    this.say();
  }

  build() {
    this.uplot?.destroy();
    this.uplot = null;
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!width) return;
    const [quiet, line] = [style("--quiet"), style("--line")];
    const axis = { stroke: quiet, font: `11px ${style("--text")}`, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const alone = this.shown.length === 1;
    this.uplot = new uPlot({
      width,
      height,
      legend: { show: false },
      padding: [8, 16, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "console" }, points: { size: 7 } },
      scales: {
        x: { range: () => [this.now - this.span, this.now] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 24, splits: () => this.splits(), values: (_, at) => at.map((t) => ago(this.now - t)) },
        { ...axis, size: 58, gap: 6, space: 24, ...(this.unit === units.bytes && { incrs: binary }), values: (_, at) => at.map((n) => (n === 0 ? "0" : this.unit(n))) },
      ],
      series: [{}, ...this.shown.map((l, i) => ({
        label: l.label, stroke: style(`--line-${i + 1}`), width: 1.75, fill: alone ? style("--line-1-fill") : undefined, points: { show: false },
      }))],
      hooks: { setCursor: [(u) => { this.at = u.cursor.left >= 0 ? u.cursor.idx : null; this.say(); }] },
    }, [[], ...this.shown.map(() => [])], this.plot);
  }

  // splits are where the axis of time has marks: at round distances from now.
  splits() {
    const unit = [15, 30, 60, 120, 180, 300].find((s) => this.span / s <= 5.5) ?? 300;
    // None at the left end, where the other axis has its zero.
    return Array.from({ length: Math.floor((0.95 * this.span) / unit) + 1 }, (_, i) => this.now - i * unit).reverse();
  }

  // redraw is for another colour scheme.
  redraw() {
    this.uplot?.destroy();
    this.uplot = null;
    if (this.history) this.draw(this.history, this.now, this.range);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!width || !this.history) return;
    if (this.uplot) this.uplot.setSize({ width, height });
    else this.redraw();
  }

  // say writes the figures: at the cursor, or the newest.
  say() {
    const at = this.at ?? null;
    const looks = at !== null && this.times[at] !== undefined;
    const sample = looks ? this.sampleAt(at) : this.history.last ?? {};
    write(this.big, this.unit(this.figure(sample)));
    write(this.side, looks ? units.clock(this.times[at]) : this.note?.(sample, this.history, this.now - this.range, this.range) ?? "");
    const rows = this.shown.length > 1 || typeof this.lines === "function" ? this.shown : [];
    fill(this.legend, rows, (l) => `${this.shown.indexOf(l)} ${l.key}`,
      (l) => el("li", { class: `line-${this.shown.indexOf(l) + 1}` }, el("span", { class: "label" }, l.label), el("span", { class: "value" })),
      (e, l) => write(e.lastChild, l.total !== undefined && !looks ? units.count(l.total) : this.unit(sample[l.key])));
  }

  sampleAt(at) {
    const i = this.history.times.indexOf(this.times[at]);
    return Object.fromEntries([...this.history.columns].map(([key, column]) => [key, column[i] ?? undefined]));
  }
}

const ago = (s) => (s < 1 ? "now" : s < 59 ? `−${Math.round(s)} s` : s % 60 < 1 || s % 60 > 59 ? `−${Math.round(s / 60)} min` : `−${(s / 60).toFixed(1)} min`);
