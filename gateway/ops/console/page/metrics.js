// Prometheus' text format, as far as the gateway writes it.

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const label = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

// Metrics are those of one answer of /metrics.
export class Metrics {
  constructor(text) {
    this.families = new Map(); // name: [{labels, value}]
    for (const l of text.split("\n")) {
      if (!l || l[0] === "#") continue;
      const m = line.exec(l);
      if (!m) continue;
      const labels = {};
      for (const [, name, value] of (m[2] ?? "").matchAll(label)) labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
      if (!this.families.has(m[1])) this.families.set(m[1], []);
      this.families.get(m[1]).push({ labels, value: number(m[3]) });
    }
  }

  // sum adds up a metric over all its labels but those given; undefined if there is none.
  sum(name, labels = {}) {
    const all = this.families.get(name)?.filter((s) => Object.entries(labels).every(([k, v]) => s.labels[k] === v));
    return all?.length ? all.reduce((n, s) => n + s.value, 0) : undefined;
  }

  // by adds up a metric by the values of one label.
  by(name, of) {
    const out = new Map();
    for (const { labels, value } of this.families.get(name) ?? []) out.set(labels[of] ?? "", (out.get(labels[of] ?? "") ?? 0) + value);
    return out;
  }

  labels(name) { return this.families.get(name)?.[0]?.labels ?? {}; }

  // histogram returns a histogram's buckets, summed over all its labels: [bound, count up to it],
  // by bound; undefined if there is none.
  histogram(name) {
    const buckets = [...this.by(`${name}_bucket`, "le")].map(([le, n]) => [number(le), n]);
    return buckets.length ? buckets.sort((a, b) => a[0] - b[0]) : undefined;
  }
}

const number = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

// quantile returns a quantile of what two states of a histogram differ in: linear within a bucket,
// and its lower bound in the last one. null if nothing was added.
export function quantile(q, before, after) {
  const was = new Map(before);
  const added = after.map(([bound, n]) => [bound, n - (was.get(bound) ?? 0)]);
  const rank = q * added.at(-1)[1];
  if (!(rank > 0)) return null;
  const i = added.findIndex(([, n]) => n >= rank);
  const [low, below] = i > 0 ? added[i - 1] : [0, 0];
  const [high, upTo] = added[i];
  return high === Infinity ? low : low + (high - low) * ((rank - below) / (upTo - below));
}
