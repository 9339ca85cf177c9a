// Visitors that the gateway brings: a process of its own, with up to 1,000 WebSockets. What it says
// comes as lines of JSON; the answer's end is the visitors' end.

import { Field } from "./field.js";
import { duration } from "./numbers.js";
import { capital, messages, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const cutCount = 100;
const ticksEvery = 100; // ms

export class Visitors {
  constructor({ channel, token, publish }) {
    Object.assign(this, { channel, token, publish });
    this.running = null; // an AbortController, while there are visitors
    this.n = 0; // of the last tick
    $("bring").addEventListener("click", () => this.bring());
    $("cut-visitors").addEventListener("click", () => this.cut());
    $("send-home").addEventListener("click", () => this.running?.abort());
    $("ticking").addEventListener("change", () => this.tick());
    addEventListener("pagehide", () => this.running?.abort());
  }

  // show shows the field, empty as yet, where the gateway can bring enough visitors.
  show({ available, most }) {
    if (!available || most < cutCount) return;
    this.most = most;
    $("visitors").hidden = false;
    $("bring").textContent = `Bring ${count(most)} visitors`;
    this.field = new Field($("dots"), most);
    this.say(`A separate process connects ${count(most)} WebSockets to the channel, for up to two minutes. Each dot is one of them.`);
    this.set("idle");
  }

  async bring() {
    const running = this.running = new AbortController();
    this.set("connecting");
    this.say("The visitors are on their way…");
    let words = "The visitors have left";
    try {
      const response = await fetch("demo/visitors", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ count: this.most, channel: this.channel(), token: this.token() }),
        signal: running.signal,
      });
      if (!response.ok) throw new Error((await response.text()).trim());
      for await (const line of lines(response.body)) words = this.line(JSON.parse(line)) ?? words;
    } catch (err) {
      if (!running.signal.aborted) words = err instanceof TypeError ? "The visitors have left: the connection to the gateway was lost" : err.message;
    }
    this.running = null;
    this.field.clear();
    this.set("idle");
    this.say(capital(words));
  }

  // line shows one line, and returns the reason where it is the last.
  line(m) {
    switch (m.type) {
      case "connecting":
        $("visitors-here").textContent = count(m.connected);
        if (m.connected === m.of) this.set("open");
        break;
      case "open": {
        const bits = bitmap(m.dots);
        this.field.setOpen(bits);
        this.here = ones(bits);
        $("dots").ariaLabel = `A field of ${count(this.most)} dots, ${count(this.here)} of them lit: the visitors who are connected`;
        $("visitors-here").textContent = count(this.here);
        if (this.here === this.most && $("visitors").dataset.state === "connecting") this.set("open");
        break;
      }
      case "flash":
        this.field.flash(bitmap(m.dots));
        break;
      case "ledger":
        this.ledger(m);
        if ($("visitors").dataset.state === "connecting") this.set("open");
        break;
      case "back":
        this.say(`${count(m.cut)} were cut, and were back after ${seconds(1000 * m.after)}. They caught up on ${messages(m.caught_up)}: ${count(m.lost)} lost, ${count(m.repeated)} repeated.`);
        break;
      case "end":
        return m.reason;
    }
  }

  ledger({ received, lost, repeated, p50, p99 }) {
    $("received").textContent = count(received);
    $("lost").textContent = count(lost);
    $("repeated").textContent = count(repeated);
    $("ledger").classList.toggle("bad", lost > 0 || repeated > 0);
    $("visitors-p50").textContent = p50 ? duration(p50) : "–";
    $("visitors-p99").textContent = p99 ? duration(p99) : "–";
  }

  async cut() {
    const response = await fetch("demo/visitors/cut", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ count: cutCount }),
    }).catch(() => null);
    if (!response?.ok) this.say("They could not be cut: there are no visitors any more.");
    else this.say(`${cutCount} connections are cut…`);
  }

  // tick publishes ten messages a second from this page, as long as the switch is on and the
  // page may.
  tick() {
    clearInterval(this.ticking);
    if (!$("ticking").checked) return;
    this.ticking = setInterval(() => {
      if (this.publish(`tick ${++this.n}`)) return;
      clearInterval(this.ticking);
      $("ticking").checked = false;
      this.say("From here, nothing can be published to the channel.");
    }, ticksEvery);
  }

  set(state) {
    const active = document.activeElement;
    if (state === "open" && $("visitors").dataset.state === "connecting") this.say("They are here. Send them something.");
    $("visitors").dataset.state = state;
    $("bring").hidden = state !== "idle";
    $("visitors-live").hidden = state === "idle";
    if ($("visitors").contains(active) && !active.checkVisibility()) $(state === "idle" ? "bring" : "send-home").focus(); // else the focus is lost
    $("cut-visitors").disabled = $("ticking").disabled = state !== "open";
    if (state === "connecting") {
      this.ledger({ received: 0, lost: 0, repeated: 0 });
      $("visitors-here").textContent = "0";
    }
    if (state !== "idle") return;
    $("ticking").checked = false;
    this.tick();
  }

  say(words) {
    if ($("visitors-words").textContent !== words) $("visitors-words").textContent = words;
  }
}

// lines returns the lines of a body as they come.
async function* lines(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const all = (rest + value).split("\n");
    rest = all.pop();
    for (const line of all) if (line) yield line;
  }
}

const count = (n) => n.toLocaleString("en");
const bitmap = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function ones(bits) {
  let n = 0;
  for (let byte of bits) for (; byte; byte &= byte - 1) n++;
  return n;
}
