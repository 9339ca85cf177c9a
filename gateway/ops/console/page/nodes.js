// The nodes that share channels, and how this one's engine is doing: the connection to the others, and the
// store of histories.

import * as api from "./api.js";
import { el, fill, write } from "./dom.js";
import * as units from "./units.js";

const causes = {
  chain: "a message does not follow the one before it",
  reconnect: "this node's connection broke",
  publisher: "another node's connection broke",
  silent: "another node was not heard for some time",
  gone: "another node ended, and this one had not heard it",
  slow: "this node did not take its messages in time",
  version: "a message of a newer version",
  refused: "the servers refused the channel's subscription",
  trimmed: "the store does not have the publications any more",
};

export class Nodes {
  constructor() {
    this.title = "Nodes";
    this.path = "nodes";
    const column = (name, how = "") => el("th", { scope: "col", class: how }, name);
    this.body = el("tbody");
    this.said = el("p", { class: "said", role: "status" });
    this.count = el("span", { class: "note" });
    this.state = el("span", { class: "badge" });
    this.facts = el("dl", { class: "facts" });
    this.gaps = el("tbody");
    this.gapTable = el("table", { hidden: true }, el("thead", {}, el("tr", {}, column("Gaps by cause"), column("Channels", "n"))), this.gaps);
    this.none = el("p", { class: "empty" });
    this.element = el("div", {}, el("div", { class: "bar over" }, el("h1", {}, "Nodes")),
      el("div", { class: "stack" },
        el("section", { class: "card", "aria-labelledby": "nodes-title" },
          el("div", { class: "bar" }, el("h2", { id: "nodes-title" }, "Nodes that share channels"), this.count),
          el("div", { class: "table", role: "group", "aria-label": "Nodes", tabindex: "0" },
            el("table", { class: "nodes" }, el("thead", {}, el("tr", {}, column("Node"), column("Engine"), column("Clients", "n"), column("Users", "n wide"), column("Subscriptions", "n wide"),
              column("Channels", "n wide"), column("Up", "n"))), this.body)), this.said),
        el("section", { class: "card", "aria-labelledby": "engine-title" },
          el("div", { class: "bar" }, el("h2", { id: "engine-title" }, "Engine of this node"), this.state), this.facts,
          el("div", { class: "table", role: "group", "aria-label": "Gaps by cause", tabindex: "0" }, this.gapTable), this.none)));
  }

  show() {}

  async refresh() {
    const info = await api.method("info", {});
    const { nodes, engine } = info;
    write(this.count, nodes.length === 1 ? "only this one" : units.count(nodes.length));
    write(this.said, info.partial ? "This node does not hear all others at the moment: nodes may be missing. Of those that are unknown, the last figures are shown." : "");
    fill(this.body, nodes, (n) => n.uid, (n) => el("tr", {},
      el("th", { scope: "row" }, el("span", { class: "name" }, n.name), el("span", { class: "under" })), el("td", {}, el("span", { class: "badge" })),
      el("td", { class: "n" }), el("td", { class: "n wide" }), el("td", { class: "n wide" }), el("td", { class: "n wide" }), el("td", { class: "n" })), (row, n) => {
      const [name, state, clients, users, subscriptions, channels, up] = row.children;
      write(name.lastChild, [n.version, n === nodes[0] && nodes.length > 1 ? "this node" : "", n.silent ? `heard ${units.age(n.silent)} ago` : "", n.uid.slice(0, 8)].filter(Boolean).join(" · "));
      badge(state.firstChild, n.silent ? "unknown" : n.draining ? "draining" : n.away ? "away" : engine ? "up" : "memory");
      write(clients, units.count(n.num_clients));
      write(users, units.count(n.num_users));
      write(subscriptions, units.count(n.num_subs));
      write(channels, units.count(n.num_channels));
      write(up, units.age(n.uptime));
    });
    this.draw(engine);
  }

  // draw shows the engine.
  draw(engine) {
    badge(this.state, engine ? (engine.up ? "up" : "away") : "memory");
    write(this.none, engine ? "" : "Histories are in this process's memory, and channels are its own. --data-dir stores histories on disk; --nats-url shares channels between nodes.");
    const facts = engine ? [
      ...Object.entries(engine.parts).sort().map(([part, up]) => [part.replace(/^./, (c) => c.toUpperCase()), up ? "up" : "down"]),
      ["Away", engine.up ? "no" : `for ${units.seconds(engine.away)}`],
      ["Away since its start", units.seconds(engine.away_total)],
      ["Publications pending", `${units.count(engine.pending)}${engine.pending ? ` (${units.bytes(engine.pending_bytes)})` : ""}`],
      ["Oldest pending", engine.pending ? units.seconds(engine.lag) : "–"],
      ["Messages to append", units.count(engine.waiting)],
      ["Publications stored", units.count(engine.stored)],
      ["Channels caught up", units.count(engine.caught_up)],
      ["Channels resubscribed", units.count(engine.resubscribed)],
      ["Questions unanswered", units.count(engine.unanswered)],
    ] : [];
    fill(this.facts, facts, ([what]) => what, ([what]) => el("div", {}, el("dt", {}, what), el("dd")), (e, [, text]) => write(e.lastChild, text));
    const gaps = Object.entries(engine?.gaps ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    this.gapTable.hidden = gaps.length === 0;
    if (engine && gaps.length === 0) write(this.none, "No channel had a gap.");
    fill(this.gaps, gaps, ([cause]) => cause, ([cause]) => el("tr", {}, el("th", { scope: "row" }, cause, el("span", { class: "under" }, causes[cause] ?? "")), el("td", { class: "n" })),
      (row, [, n]) => write(row.lastChild, units.count(n)));
  }
}

function badge(e, state) {
  write(e, state);
  e.dataset.state = state;
}
