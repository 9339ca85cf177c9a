// What each configured namespace has and does. It is all in the metrics.

import { el, fill, write } from "./dom.js";
import * as units from "./units.js";

export class Namespaces {
  constructor() {
    this.title = "Namespaces";
    this.path = "namespaces";
    this.body = el("tbody");
    this.empty = el("p", { class: "empty" });
    const column = (name) => el("th", { scope: "col", class: "n" }, name);
    this.table = el("table", { hidden: true }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Namespace"), column("Channels"), column("Subscriptions"), column("Publications/s"))), this.body);
    this.element = el("div", {}, el("div", { class: "bar over" }, el("h1", {}, "Namespaces")),
      el("section", { class: "card", "aria-label": "Namespaces" }, el("div", { class: "table", role: "group", "aria-label": "Namespaces", tabindex: "0" }, this.table, this.empty)));
  }

  show(history, now, metrics) {
    if (!metrics) return;
    const [channels, subscriptions] = ["channels", "subscriptions"].map((what) => metrics.by(`sluice_namespace_${what}`, "namespace"));
    const names = [...new Set([...channels.keys(), ...subscriptions.keys()])].sort();
    this.table.hidden = names.length === 0;
    write(this.empty, names.length ? "" : "No namespaces are configured. With --namespaces, each one has a line here.");
    fill(this.body, names, (name) => name, (name) => el("tr", {}, el("th", { scope: "row" }, name ? el("span", { class: "name" }, name) : el("em", {}, "without a prefix")), ...[0, 1, 2].map(() => el("td", { class: "n" }))), (row, name) => {
      write(row.children[1], units.count(channels.get(name)));
      write(row.children[2], units.count(subscriptions.get(name)));
      write(row.children[3], units.rate(history.last?.named.get(name)));
    });
  }

  async refresh() {}
}
