// What the charts show: a quarter of an hour of samples, each made of two answers of /metrics.

import { quantile } from "./metrics.js";

export const step = 2; // seconds between samples
const most = (15 * 60) / step;
const window = 5; // samples over which quantiles are taken: ten seconds

const counters = {
  publishedByClients: ["sluice_publications_total", { source: "client" }],
  publishedByAPI: ["sluice_publications_total", { source: "api" }],
  deliveries: ["sluice_deliveries_total"],
  received: ["sluice_messages_received_total"],
  sentBytes: ["sluice_sent_bytes_total"],
  cpu: ["process_cpu_seconds_total"],
  pushBacks: ["sluice_push_backs_total"],
  panics: ["sluice_panics_total"],
  engineGaps: ["sluice_engine_gaps_total"],
};

const gauges = {
  connections: ["sluice_connections"],
  connectionsMost: ["sluice_max_connections"],
  subscriptions: ["sluice_subscriptions"],
  channels: ["sluice_channels"],
  blocked: ["sluice_blocked_connections"],
  kernel: ["sluice_kernel_tcp_memory_bytes"],
  history: ["sluice_held_bytes", { what: "history" }],
  memory: ["process_resident_memory_bytes"],
  memoryUsed: ["sluice_memory_used_bytes"],
  memoryLimit: ["sluice_memory_limit_bytes"],
  files: ["process_open_fds"],
  filesMost: ["process_max_fds"],
  started: ["process_start_time_seconds"],
  outage: ["sluice_engine_outage_seconds"],
  expiry: ["sluice_certificate_expiry_timestamp_seconds"],
};

const histograms = { latency: "sluice_delivery_latency_seconds", lag: "sluice_loop_lag_seconds" };

// History keeps the samples as columns, as uPlot draws them.
export class History {
  constructor() {
    this.times = [];
    this.columns = new Map();
    this.last = null; // the newest sample
    this.forget();
  }

  // forget drops what rates are made from: the process is another one, or nobody looked.
  forget() {
    this.before = null;
    this.states = [];
  }

  // add makes a sample of metrics at a time, in seconds.
  add(metrics, at) {
    const sample = {};
    for (const [key, [name, labels]] of Object.entries(gauges)) sample[key] = metrics.sum(name, labels);
    const held = metrics.sum("sluice_held_bytes");
    if (held !== undefined) sample.pending = held - (sample.history ?? 0);
    if (this.before?.started !== sample.started || at - this.before?.at > 4 * step) this.gap(at);
    const now = { at, started: sample.started, counters: {}, closed: metrics.by("sluice_connections_closed_total", "reason"), named: metrics.by("sluice_namespace_publications_total", "namespace") };
    for (const [key, [name, labels]] of Object.entries(counters)) now.counters[key] = metrics.sum(name, labels);
    const { before } = this;
    const per = (n, was) => Math.max(0, (n - was) / (at - before.at));
    if (before) {
      for (const key of Object.keys(counters)) if (now.counters[key] !== undefined) sample[key] = per(now.counters[key], before.counters[key]);
      for (const [reason, n] of now.closed) sample[`closed ${reason}`] = per(n, before.closed.get(reason) ?? 0);
    }
    sample.named = new Map(before && [...now.named].map(([name, n]) => [name, per(n, before.named.get(name) ?? 0)]));
    this.quantiles(metrics, sample);
    this.before = now;
    this.push(at, sample);
    this.last = { at, ...sample };
  }

  quantiles(metrics, sample) {
    const state = {};
    for (const [key, name] of Object.entries(histograms)) state[key] = metrics.histogram(name);
    this.states.push(state);
    if (this.states.length > window + 1) this.states.shift();
    const [first] = this.states;
    for (const key of Object.keys(histograms)) {
      if (!state[key] || first === state) continue;
      sample[`${key}50`] = quantile(0.5, first[key] ?? [], state[key]);
      sample[`${key}99`] = quantile(0.99, first[key] ?? [], state[key]);
    }
  }

  // gap ends the lines.
  gap(at) {
    if (this.times.length) this.push(at - 0.001, {});
    this.forget();
  }

  push(at, sample) {
    this.times.push(at);
    for (const key of Object.keys(sample)) {
      if (typeof sample[key] === "number" && !this.columns.has(key)) this.columns.set(key, new Array(this.times.length - 1).fill(null));
    }
    for (const [key, column] of this.columns) column.push(sample[key] ?? null);
    if (this.times.length > most + 1) {
      this.times.shift();
      for (const column of this.columns.values()) column.shift();
    }
  }

  column(key) { return this.columns.get(key) ?? new Array(this.times.length).fill(null); }

  // reasons returns the reasons of closing with the most closes since a time, and their number.
  reasons(since) {
    const begin = this.times.findIndex((t) => t >= since);
    const out = [];
    for (const [key, column] of this.columns) {
      if (!key.startsWith("closed ")) continue;
      let n = 0;
      for (let i = Math.max(begin, 1); i < column.length; i++) n += (column[i] ?? 0) * (this.times[i] - this.times[i - 1]);
      if (n > 0.01) out.push({ key, reason: key.slice(7), n: Math.round(n) });
    }
    return out.sort((a, b) => b.n - a.n);
  }
}
