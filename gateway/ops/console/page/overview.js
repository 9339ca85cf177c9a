// The first view: what the gateway does, and what an operator should look at.

import { el, fill } from "./dom.js";
import { Chart } from "./chart.js";
import { BusiestTable } from "./channels.js";
import { ConnectionTable } from "./connections.js";
import * as units from "./units.js";

const closes = 5; // reasons that have a line of their own

const charts = [
  {
    title: "Connections", unit: units.count, lines: [{ key: "connections", label: "open" }], figure: (s) => s.connections,
    note: (s) => (s.connectionsMost ? `of ${units.count(s.connectionsMost)}` : ""),
  },
  {
    title: "Publications per second", unit: units.rate, lines: [{ key: "publishedByAPI", label: "HTTP API" }, { key: "publishedByClients", label: "clients" }],
    figure: (s) => sum(s.publishedByAPI, s.publishedByClients), note: (s) => `${units.count(s.channels)} ${s.channels === 1 ? "channel" : "channels"}`,
  },
  {
    title: "Deliveries per second", unit: units.rate, lines: [{ key: "deliveries", label: "deliveries" }], figure: (s) => s.deliveries,
    note: (s) => (s.subscriptions === undefined ? "" : `to ${units.count(s.subscriptions)} ${s.subscriptions === 1 ? "subscription" : "subscriptions"}`),
  },
  {
    title: "Delivery latency", unit: units.seconds, lines: [{ key: "latency50", label: "p50" }, { key: "latency99", label: "p99" }], figure: (s) => s.latency99,
    note: (s) => (typeof s.latency99 === "number" ? "p99, publish to last write" : "nothing delivered in 10 s"),
  },
  {
    title: "Buffered bytes", unit: units.bytes,
    lines: [{ key: "pending", label: "pending" }, { key: "kernel", label: "kernel TCP" }, { key: "history", label: "history" }],
    figure: (s) => s.pending, note: (s) => `pending${s.blocked ? `, ${units.count(s.blocked)} blocked` : ""}`,
  },
  {
    title: "Closed connections per second", unit: units.rate,
    lines: (history, since) => history.reasons(since).slice(0, closes).map(({ key, reason, n }) => ({ key, label: reason, total: n })),
    figure: (s) => sum(...Object.keys(s).filter((k) => k.startsWith("closed ")).map((k) => s[k])),
    note: (_, history, since, range) => `${units.count(history.reasons(since).reduce((n, r) => n + r.n, 0))} in ${range / 60} min`,
  },
  {
    title: "Event loop lag", unit: units.seconds, lines: [{ key: "lag50", label: "p50" }, { key: "lag99", label: "p99" }], figure: (s) => s.lag99,
    note: (s) => (typeof s.lag99 === "number" ? "p99" : ""),
  },
  { title: "CPU", unit: units.percent, lines: [{ key: "cpu", label: "CPU" }], figure: (s) => s.cpu, note: () => "of one core" },
  {
    title: "Memory", unit: units.bytes, lines: [{ key: "memory", label: "resident" }], figure: (s) => s.memory,
    note: (s) => (s.memoryLimit ? `limit ${units.bytes(s.memoryLimit)}` : s.connections >= 1000 ? `${units.bytes(s.memory / s.connections)} per connection, fixed part included` : ""),
  },
];

const sum = (...all) => (all.some((n) => typeof n === "number") ? all.reduce((n, m) => n + (m ?? 0), 0) : undefined);

// notices are what an operator should know of: each returns a sentence, or nothing.
const notices = [
  (s) => (s.connections >= 0.85 * s.connectionsMost ? `${units.percent(s.connections / s.connectionsMost)} of the connections that --max-connections allows are open.` : ""),
  (s) => (s.files >= 0.85 * s.filesMost ? `${units.percent(s.files / s.filesMost)} of the file descriptors are in use.` : ""),
  (s) => (s.memoryLimit > 0 && s.memoryUsed >= 0.85 * s.memoryLimit ? `${units.percent(s.memoryUsed / s.memoryLimit)} of the memory limit is used; above 95 % new connections are refused.` : ""),
  (s) => (s.pushBacks > 0 ? `Publishers have to wait: ${units.rate(s.pushBacks)} publications per second are pushed back.` : ""),
  (s) => (s.outage > 0 ? `The store, or the connection to other nodes, has been down for ${units.seconds(s.outage)}: publishing fails, at least to some channels.` : ""),
  (s) => (s.engineGaps > 0 ? "Publications may have been lost between nodes: subscribers are notified of gaps." : ""),
  (s) => (s.lag99 > 0.1 ? `Event loops are late: p99 ${units.seconds(s.lag99)}.` : ""),
  (s) => (s.panics > 0 ? "A connection's code has panicked; the stack is in the log." : ""),
  (s, now) => (s.expiry && s.expiry - now < 14 * 86400 ? (s.expiry > now ? `The TLS certificate expires in ${units.age(s.expiry - now)}.` : "The TLS certificate has expired.") : ""),
];

export class Overview {
  constructor() {
    this.title = "Overview";
    this.path = "";
    this.charts = charts.map((c) => new Chart(c));
    this.notices = el("ul", { class: "notices", "aria-label": "Notices" });
    this.busiest = new BusiestTable(8);
    this.slowest = new ConnectionTable(8);
    this.range = 300;
    this.element = el("div", {}, this.bar(), this.notices,
      el("div", { class: "charts" }, ...this.charts.map((c) => c.element)),
      el("div", { class: "pair" },
        el("section", { class: "card", "aria-labelledby": "busiest-title" },
          el("div", { class: "bar" }, el("h2", { id: "busiest-title" }, "Busiest channels"), el("a", { href: "#/channels" }, "All channels")), this.busiest.element),
        el("section", { class: "card", "aria-labelledby": "slowest-title" },
          el("div", { class: "bar" }, el("h2", { id: "slowest-title" }, "Slowest connections"), el("a", { href: "#/connections" }, "All connections")), this.slowest.element)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.charts.forEach((c) => c.redraw()));
  }

  bar() {
    const choice = (seconds, text) => el("label", {}, el("input", { type: "radio", name: "range", value: seconds, checked: seconds === this.range, onchange: () => { this.range = seconds; this.draw(); } }), el("span", {}, text));
    return el("div", { class: "bar over" }, el("h1", {}, "Overview"),
      el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, "Time shown"), choice(60, "1 min"), choice(300, "5 min"), choice(900, "15 min")));
  }

  // show is called with each sample, while the view is open.
  show(history, now) {
    Object.assign(this, { history, now });
    this.draw();
    const sample = history.last ?? {};
    fill(this.notices, notices.map((f) => f(sample, now)).filter(Boolean), (text) => text, (text) => el("li", {}, text), () => {});
  }

  draw() {
    if (this.history) for (const c of this.charts) c.draw(this.history, this.now, this.range);
  }

  async refresh() { await Promise.all([this.busiest.refresh("rate"), this.slowest.refresh("lag")]); }
}
