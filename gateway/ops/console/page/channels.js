// The busiest channels, and the inspector of one.

import * as api from "./api.js";
import { channelLink, el, fill, write } from "./dom.js";
import * as units from "./units.js";

// BusiestTable lists the channels with the most publications or clients.
export class BusiestTable {
  constructor(limit) {
    this.limit = limit;
    this.body = el("tbody");
    this.empty = el("p", { class: "empty" }, "Loading");
    this.table = el("table", { hidden: true, class: "channels" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Channel"), el("th", { scope: "col", class: "n" }, "Publications/s"), el("th", { scope: "col", class: "n" }, "Subscribers"))), this.body);
    this.element = el("div", { class: "table", role: "group", "aria-label": "Busiest channels", tabindex: "0" }, this.table, this.empty);
  }

  async refresh(sort) {
    const { channels, num_channels: all } = await api.busiest(sort, this.limit);
    this.table.hidden = channels.length === 0;
    write(this.empty, channels.length ? (all > channels.length ? `${units.count(all)} channels in all` : "") : "No channel has subscribers or a history.");
    const of = sort === "rate" ? "publications_per_second" : "num_clients";
    const most = Math.max(...channels.map((c) => c[of]), 0);
    fill(this.body, channels, (c) => c.channel,
      (c) => el("tr", {}, el("th", { scope: "row" }, channelLink(c.channel), el("meter", { min: 0, "aria-hidden": "true" })), el("td", { class: "n" }), el("td", { class: "n" })),
      (row, c) => {
        const meter = row.querySelector("meter");
        row.toggleAttribute("data-current", c.channel === this.current);
        meter.max = most || 1;
        meter.value = c[of];
        write(row.children[1], units.rate(c.publications_per_second));
        write(row.children[2], units.count(c.num_clients));
      });
  }
}

const presenceMost = 200; // clients that are listed
const historyMost = 20;

// Channels is the view of channels: the busiest, and the one that is looked at.
export class Channels {
  constructor() {
    this.title = "Channels";
    this.path = "channels";
    this.sort = "rate";
    this.busiest = new BusiestTable(50);
    const choice = (sort, text) => el("label", {}, el("input", { type: "radio", name: "channel-sort", value: sort, checked: sort === this.sort, onchange: () => { this.sort = sort; this.busiest.refresh(sort).catch(() => {}); } }), el("span", {}, text));
    this.field = el("input", { id: "channel", name: "channel", maxlength: 255, placeholder: "name", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true });
    this.inspector = new Inspector();
    this.element = el("div", {},
      el("div", { class: "bar over" }, el("h1", {}, "Channels")),
      el("div", { class: "sides" },
        el("section", { class: "card", "aria-labelledby": "channels-title" },
          el("div", { class: "bar" }, el("h2", { id: "channels-title" }, "Busiest"),
            el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, "Sort by"), choice("rate", "Publications/s"), choice("clients", "Subscribers"))),
          this.busiest.element),
        el("section", { class: "card inspector", "aria-labelledby": "inspector-title" },
          el("form", { class: "bar", onsubmit: (e) => { e.preventDefault(); location.hash = `#/channels/${encodeURIComponent(this.field.value)}`; } },
            el("label", { for: "channel", id: "inspector-title" }, "Inspect a channel"), this.field, el("button", {}, "Inspect")),
          this.inspector.element)));
  }

  open(name) {
    if (name) this.field.value = name;
    this.busiest.current = name;
    this.inspector.open(name);
  }

  show() {}

  async refresh() { await Promise.all([this.busiest.refresh(this.sort), this.inspector.refresh()]); }
}

// Inspector shows a channel: its subscribers, presence and history; and publishes to it.
class Inspector {
  constructor() {
    this.name = "";
    this.title = el("h2", { class: "channel-name" });
    this.facts = el("dl", { class: "facts" });
    this.presence = new Part("Presence", el("ul", { class: "clients", tabindex: "0", "aria-label": "Clients" }));
    this.history = new Part("History", el("ol", { class: "publications", tabindex: "0", "aria-label": "Publications" }));
    this.text = el("textarea", { id: "publish-text", rows: 2, required: true, placeholder: '{"text":"hello"}', spellcheck: "false" });
    this.result = el("p", { class: "hint", role: "status" });
    this.button = el("button", { class: "primary" }, "Publish");
    this.body = el("div", { hidden: true }, this.title, this.facts,
      el("form", { class: "publish", onsubmit: (e) => { e.preventDefault(); this.publish(); } },
        el("label", { for: "publish-text" }, "Publish one message"), this.text, el("div", { class: "bar" }, this.result, this.button)),
      this.history.element, this.presence.element);
    this.hint = el("p", { class: "empty" }, "Choose a channel from the list, or enter its name.");
    this.element = el("div", {}, this.body, this.hint);
  }

  open(name) {
    if (name === this.name) return;
    this.name = name;
    this.body.hidden = !name;
    this.hint.hidden = Boolean(name);
    write(this.title, name);
    write(this.result, "");
    for (const list of [this.facts, this.presence.list, this.history.list]) list.replaceChildren();
    this.presence.say("");
    this.history.say("");
  }

  async refresh() {
    const { name } = this;
    if (!name) return;
    const [stats, history, presence] = await Promise.all([
      api.channel(name).catch((fault) => fault),
      api.method("history", { channel: name, limit: historyMost, reverse: true }).catch((fault) => fault),
      this.askPresence(name).catch((fault) => fault),
    ]);
    if (name !== this.name) return; // another one was chosen meanwhile
    this.showFacts(stats, history, presence);
    this.showHistory(history);
    this.showPresence(presence, stats?.num_clients > 0);
  }

  async askPresence(name) {
    const counted = await api.method("presence_stats", { channel: name });
    if (counted.num_clients > presenceMost) return counted;
    return { ...counted, ...(await api.method("presence", { channel: name })) };
  }

  showFacts(stats, history, presence) {
    const facts = [["Subscribers", units.count(stats?.num_clients ?? (stats instanceof Error ? NaN : 0))], ["Publications/s", units.rate(stats?.publications_per_second ?? (stats instanceof Error ? NaN : 0))]];
    if (!(history instanceof Error)) facts.push(["Newest offset", String(history.offset)], ["Epoch", history.epoch || "–"]);
    if (!(presence instanceof Error)) facts.push(["Users", units.count(presence.num_users)]);
    fill(this.facts, facts, ([term]) => term, ([term]) => el("div", {}, el("dt", {}, term), el("dd")), (e, [, value]) => write(e.lastChild, value));
  }

  showHistory(history) {
    if (history instanceof Error) {
      this.history.list.replaceChildren();
      this.history.say(history.code === 108 ? "This channel keeps no history." : `Not available: ${history.message}`);
      return;
    }
    const all = history.publications;
    fill(this.history.list, all, (p) => `${history.epoch} ${p.offset}`, (p) => el("li", {},
      el("span", { class: "offset" }, String(p.offset)),
      el("span", { class: "from" }, p.info ? p.info.user || p.info.client : ""),
      el("code", {}, payload(p))), () => {});
    this.history.say(all.length ? (all.length === historyMost ? `The newest ${historyMost}.` : "") : "Nothing is kept.");
  }

  showPresence(presence, subscribed) {
    if (presence instanceof Error) {
      this.presence.list.replaceChildren();
      this.presence.say(presence.code === 108 ? "This channel has no presence." : `Not available: ${presence.message}`);
      return;
    }
    const all = Object.values(presence.presence ?? {});
    fill(this.presence.list, all, (c) => c.client, (c) => el("li", {},
      el("strong", {}, c.user || "anonymous"), el("span", { class: "id" }, c.client), c.conn_info ? el("code", {}, JSON.stringify(c.conn_info)) : ""), () => {});
    this.presence.say(!presence.presence ? `${units.count(presence.num_clients)} clients: too many to list.` : all.length ? "" : subscribed ? "Nobody is listed: presence has clients of the Centrifugo protocol only." : "Nobody is here.");
  }

  async publish() {
    this.button.disabled = true;
    try {
      const { offset, subscribers } = await api.publish(this.name, this.text.value);
      write(this.result, `Published${offset ? ` at offset ${offset}` : ""} to ${units.count(subscribers)} ${subscribers === 1 ? "subscriber" : "subscribers"}.`);
      this.refresh().catch(() => {});
    } catch (fault) {
      write(this.result, `Not published: ${fault.message}`);
    }
    this.button.disabled = false;
  }
}

// Part is a list with a title and a sentence.
class Part {
  constructor(title, list) {
    this.list = list;
    this.sentence = el("p", { class: "hint" });
    this.element = el("section", { class: "part", "aria-label": title }, el("h3", {}, title), this.sentence, list);
  }

  say(text) {
    write(this.sentence, text);
    this.sentence.hidden = !text;
    this.list.hidden = !this.list.children.length;
  }
}

// payload is what a publication carries, as text of bounded length.
function payload(p) {
  const text = p.b64data !== undefined ? `base64 ${p.b64data}` : typeof p.data === "string" ? p.data : JSON.stringify(p.data);
  return text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
}
