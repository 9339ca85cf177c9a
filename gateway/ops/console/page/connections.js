// The connections that stand out, and closing one.

import * as api from "./api.js";
import { channelLink, confirm, el, fill, write } from "./dom.js";
import * as units from "./units.js";

// ConnectionTable lists the connections that are behind most.
export class ConnectionTable {
  constructor(limit) {
    this.limit = limit;
    this.body = el("tbody");
    this.empty = el("p", { class: "empty" }, "Loading");
    const column = (name, how = "") => el("th", { scope: "col", class: how }, name);
    this.table = el("table", { hidden: true, class: "connections" }, el("thead", {}, el("tr", {}, column("Client"), column("Channels", "wide"), column("State"), column("Unsent", "n wide"), column("Behind", "n wide"), column("Stalled", "n wide"),
      column("RTT", "n wide"), el("th", { scope: "col" }, el("span", { class: "unseen" }, "Action")))), this.body);
    this.said = el("p", { class: "said", role: "status" });
    this.element = el("div", { class: "table", role: "group", "aria-label": "Connections", tabindex: "0" }, this.table, this.empty, this.said);
  }

  async refresh(sort) {
    this.sort = sort;
    const { connections, total } = await api.connections(sort, this.limit);
    const slow = connections.filter((c) => c.pending_bytes || c.unsent_age_ms || c.state !== "open");
    const shown = this.limit > 20 ? connections : slow; // the long list has all kinds
    this.table.hidden = shown.length === 0;
    write(this.empty, shown.length ? (total > shown.length ? `${units.count(total)} connections in all` : "") : total ? `None of the ${units.count(total)} connections has unsent bytes.` : "Nobody is connected.");
    fill(this.body, shown, (c) => c.id, (c) => this.row(c), (row, c) => this.update(row, c));
  }

  row(c) {
    return el("tr", {},
      el("th", { scope: "row" }, el("span", { class: "name" }, c.address), el("span", { class: "under" }, [c.user, `${c.protocol} ${c.format}`, c.compression, c.tls ? "TLS" : ""].filter(Boolean).join(" · "))),
      el("td", { class: "wide" }), el("td", {}, el("span", { class: "badge" })), el("td", { class: "n wide" }), el("td", { class: "n wide" }), el("td", { class: "n wide" }), el("td", { class: "n wide" }),
      el("td", {}, el("button", { class: "small", onclick: () => this.close(c), "aria-label": `Close the connection of ${c.address}` }, "Close")));
  }

  update(row, c) {
    const [, channels, state, unsent, behind, stalled, rtt] = row.children;
    const names = c.channels.join("\n");
    if (channels.dataset.names !== names) {
      channels.dataset.names = names;
      channels.replaceChildren(...c.channels.slice(0, 2).map(channelLink), c.channels.length > 2 ? el("span", { class: "under" }, `and ${c.channels.length - 2} more`) : "");
    }
    write(state.firstChild, c.state);
    state.firstChild.dataset.state = c.state;
    write(unsent, units.bytes(c.pending_bytes));
    write(behind, c.lag ? `${units.count(c.lag)} msg` : "–");
    write(stalled, c.unsent_age_ms ? units.seconds(c.unsent_age_ms / 1000) : "–");
    write(rtt, c.rtt_us ? units.seconds(c.rtt_us / 1e6) : "–");
  }

  async close(c) {
    const who = [c.address, c.user && `user ${c.user}`].filter(Boolean).join(", ");
    if (!(await confirm("Close this connection?", `${who}. Its client may connect again at once.`, "Close connection"))) return;
    try {
      await api.closeConnection(c.id);
      write(this.said, `The connection of ${c.address} is closed.`);
    } catch (fault) {
      write(this.said, `Not closed: ${fault.message}`);
    }
    this.refresh(this.sort).catch(() => {});
  }
}

// Connections is the view of connections.
export class Connections {
  constructor() {
    this.title = "Connections";
    this.path = "connections";
    this.sort = "lag";
    this.table = new ConnectionTable(50);
    const choice = (sort, text) => el("label", {}, el("input", { type: "radio", name: "connection-sort", value: sort, checked: sort === this.sort, onchange: () => { this.sort = sort; this.table.refresh(sort).catch(() => {}); } }), el("span", {}, text));
    this.element = el("div", {},
      el("div", { class: "bar over" }, el("h1", {}, "Connections"),
        el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, "Sort by"), choice("lag", "Behind"), choice("age", "Stalled"), choice("pending", "Unsent"))),
      el("section", { class: "card", "aria-label": "Slowest connections" }, this.table.element));
  }

  show() {}

  async refresh() { await this.table.refresh(this.sort); }
}
