// The gateway's /echo, for the page: each message comes back to its sender alone, with the time
// that it took. It reports to the functions it is given.

import { echoURL } from "./address.js";
import { bytesWords, capital, closeWords, notReached, notReachedAgain, seconds } from "./words.js";

const waitMin = 1_000; // ms, between two attempts
const waitMax = 15_000;

export class Echo {
  // settings: { address, channel }, of which the channel is for what comes after; told: see page.js.
  constructor({ address, channel }, told) {
    Object.assign(this, { address, channel, told });
    this.state = "closed"; // or connecting, open, waiting
    this.tries = 0;
    this.lostAt = 0; // when the last good connection was lost; 0 before the first
  }

  get target() { return echoURL(this.address); }
  get action() { return { open: "Cut connection", waiting: "Reconnect now" }[this.state] ?? ""; }

  open() {
    clearTimeout(this.timer);
    this.set("connecting", `Connecting to ${this.address.host}…`);
    this.unseen = []; // sent, not seen to come back
    let ws;
    try {
      ws = new WebSocket(this.target);
    } catch (err) { // an address that this page may not connect to, as ws: from https:
      return this.set("closed", `Can't connect: ${err.message}`);
    }
    this.ws = ws;
    ws.binaryType = "arraybuffer";
    ws.onopen = () => this.opened();
    ws.onmessage = ({ data }) => this.echoed(data);
    ws.onclose = ({ code, reason }) => this.lost(`connection closed (${code}): ${closeWords(code, reason)}`);
  }

  opened() {
    if (!this.lostAt) this.told.joined(this);
    this.set("open", "Connected to echo");
    if (this.lostAt) this.told.back(`Back after ${seconds(Date.now() - this.lostAt)}`, false);
  }

  lost(words, wait = Math.min(waitMax, waitMin * 2 ** this.tries++)) {
    const opened = this.state === "open";
    this.drop();
    if (opened) {
      this.lostAt = Date.now();
      this.told.note(capital(words));
    }
    if (!this.lostAt) return this.set("closed", capital(notReached(this.address.host === location.host)));
    this.timer = setTimeout(() => this.open(), wait);
    this.set("waiting", `${capital(opened ? words : notReachedAgain)}. Reconnecting`, Date.now() + wait);
  }

  act() {
    if (this.state === "waiting") this.open();
    else this.lost("you cut the connection", 5_000);
  }

  hurry() {
    if (this.state === "waiting") this.open();
  }

  close() {
    this.drop();
    this.set("closed", "Disconnected");
  }

  // drop forgets the WebSocket: what it still says is nobody's business.
  drop() {
    clearTimeout(this.timer);
    if (this.ws) this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
    this.ws?.close();
    this.ws = null;
  }

  set(state, words, until) {
    this.state = state;
    this.told.state(this, words, until);
  }

  // send reports whether the text was sent.
  send(text) {
    if (this.state !== "open") return false;
    this.unseen.push({ text, at: performance.now() });
    this.ws.send(text);
    return true;
  }

  // echoed reads a message. They come back in the order they were sent: one that is not the next
  // expected is the server's own, such as its greeting.
  echoed(data) {
    const now = performance.now();
    this.tries = 0;
    const own = data === this.unseen[0]?.text;
    const { at } = own ? this.unseen.shift() : {};
    this.told.message({
      at: Date.now(),
      offset: null,
      latency: own ? Math.round((now - at) * 10) / 10 : null,
      own,
      from: own ? "" : "server",
      sender: "",
      text: typeof data === "string" ? data : bytesWords(new Uint8Array(data)),
    });
  }
}
