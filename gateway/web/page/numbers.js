// The strip: what the gateway does now, and a minute of it as lines. Its numbers are counters that
// only grow; rates and quantiles are made here.

const kept = 61; // samples: a minute of one a second
const window = 10; // samples that a quantile is made of
const svg = "http://www.w3.org/2000/svg";

export class Numbers {
  constructor(element) {
    this.element = element;
    this.samples = [];
    this.tiles = {
      connections: tile("connections"),
      messages: tile("messages/s"),
      deliveries: tile("deliveries/s"),
      latency: tile("latency, p50 · p99"),
      memory: tile("memory per connection"),
    };
    const dl = document.createElement("dl");
    dl.append(...Object.values(this.tiles).map((t) => t.group));
    element.append(dl);
    this.tiles.latency.words.textContent = "publish to last write";
  }

  // add takes an answer of the gateway.
  add(now) {
    const before = this.samples.at(-1)?.now;
    if (before && (now.uptime < before.uptime || now.published < before.published)) this.samples.length = 0; // it has been restarted
    const sample = this.sampleOf(now);
    this.samples.push(sample);
    if (this.samples.length > kept) this.samples.shift();
    this.show("connections", whole(sample.connections));
    this.show("messages", rate(sample.messages));
    this.show("deliveries", rate(sample.deliveries));
    const quantile = quantiles((this.samples.at(-window) ?? this.samples[0]).now.latency, now.latency, [0.5, 0.99]);
    this.show("latency", quantile ? quantile.map(duration).join(" · ") : "–");
    this.show("memory", sample.memory === null ? "–" : about(sample.memory));
    this.tiles.memory.words.textContent = memoryWords(now);
  }

  // sampleOf returns what is drawn of an answer: a value for each tile, null where there is none.
  sampleOf(now) {
    const before = this.samples.at(-1)?.now;
    const each = (key) => (before && now.time > before.time ? (1000 * (now[key] - before[key])) / (now.time - before.time) : 0);
    return {
      now,
      connections: now.connections,
      messages: each("published"),
      deliveries: each("delivered"),
      latency: quantiles(before?.latency ?? now.latency, now.latency, [0.99])?.[0] ?? null,
      memory: now.memory.per_connection,
    };
  }

  show(name, words) {
    const t = this.tiles[name];
    if (t.value.textContent !== words) t.value.textContent = words;
    const [stroke, area] = lines(this.samples.map((s) => s[name]));
    t.line.setAttribute("d", stroke);
    t.area.setAttribute("d", area);
  }
}

// tile is one number with its name and its line.
function tile(name) {
  const group = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
  const value = document.createElement("span"), words = document.createElement("span");
  value.className = "value";
  words.className = "words";
  dt.textContent = name;
  const [chart, area, path] = ["svg", "path", "path"].map((kind) => document.createElementNS(svg, kind));
  for (const [key, v] of Object.entries({ viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" })) chart.setAttribute(key, v);
  area.classList.add("area");
  chart.append(area, path);
  dd.append(value, chart, words);
  group.append(dt, dd);
  return { group, value, words, line: path, area };
}

// lines returns the path of a minute's values, newest at the right, and that of what lies below it;
// null is a hole.
function lines(values) {
  const top = Math.max(...values.map((v) => v ?? 0)) || 1;
  let stroke = "", area = "", last = null;
  values.forEach((v, i) => {
    const x = kept - values.length + i - 1;
    if (v !== null) {
      const point = `${x} ${(19 - (17 * v) / top).toFixed(2)}`;
      stroke += `${last === null ? "M" : "L"}${point}`;
      area += `${last === null ? `M${x} 20L` : "L"}${point}`;
    }
    if (last !== null && (v === null || i === values.length - 1)) area += `L${v === null ? last : x} 20Z`;
    last = v === null ? null : x;
  });
  return [stroke, area];
}

// quantiles returns the quantiles, in seconds, of what two states of a histogram differ by; null
// where they do not.
export function quantiles(before, now, wanted) {
  const counts = now.counts.map((n, i) => n - (before.counts[i] ?? 0));
  const total = counts.reduce((a, b) => a + b, 0);
  if (total <= 0) return null;
  return wanted.map((q) => {
    let below = 0;
    for (let i = 0; i < counts.length; i++) {
      if (below + counts[i] < q * total) {
        below += counts[i];
        continue;
      }
      const low = now.bounds[i - 1] ?? 0, high = now.bounds[i] ?? low; // above the last bound nothing is known
      return low + ((high - low) * (q * total - below)) / (counts[i] || 1);
    }
    return now.bounds.at(-1);
  });
}

function memoryWords({ memory: { process, fixed, per_connection: each }, connections }) {
  if (each === null && connections < 1000) return "from 1,000 connections on";
  if (each === null) return `${mebibytes(process)} MiB, fixed ${mebibytes(fixed)}: too close`;
  return `(${mebibytes(process)} − ${mebibytes(fixed)} MiB fixed) ÷ ${whole(connections)}`;
}

const mebibytes = (n) => (n / (1 << 20)).toFixed(1);
const whole = (n) => Math.round(n).toLocaleString("en");
const rate = (n) => (n > 0 && n < 9.95 ? n.toFixed(1) : whole(n));

// about returns a size with the two digits that mean something, where the memory of a whole process
// is divided: "≈ 410 B", "≈ 8.9 KB".
function about(n) {
  const rounded = Number(n.toPrecision(2));
  return rounded < 1000 ? `≈ ${rounded} B` : `≈ ${rounded < 10_000 ? (rounded / 1000).toFixed(1) : rounded / 1000} KB`;
}

// duration returns seconds for people, with two digits that mean something.
export function duration(s) {
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 1) return `${s < 0.01 ? (s * 1e3).toFixed(1) : Math.round(s * 1e3)} ms`;
  return `${s.toFixed(1)} s`;
}
