// A connection to the gateway that comes back by itself and goes on where it was.
// It knows no page: it reports what happens to the functions it is given.

import { channelURL, echoURL } from "./address.js";
import { base64Of, binaryWords, closedForGood, notAllowed, senderWords } from "./words.js";

const waitMin = 500; // ms, between two attempts
const waitMax = 15_000;
const cutWait = 5_000; // long enough to publish something meanwhile
const openTimeout = 10_000; // a longer attempt is abandoned
const settled = 5_000; // a connection that held so long was a good one

export class Stream {
  // told: { state(stream), message(message), greeting(text), back(report) }; the report
  // of one return is repeated whenever it grows.
  constructor({ address, channel, echo }, told) {
    this.address = address;
    this.channel = channel;
    this.echo = echo;
    this.told = told;
    this.state = "closed"; // or connecting, open, waiting
    this.closed = null; // { code, reason, opened } of the last connection
    this.retryAt = 0; // performance.now() of the next attempt, while waiting

    this.since = "now"; // or epoch:offset of the last record
    this.mine = new Set(); // ids that this client's connections had in this epoch
    this.conn = ""; // the present one; "" while it is not known
    this.skew = null; // least of own clock minus the server's, over all live messages
    this.lostAt = 0; // when the last good connection was lost; 0 before the first
    this.tries = 0;
    this.listenOnly = false; // the server said that publishing is off
    this.sent = ""; // the last text
    this.refused = ""; // the text that the last connection was closed for
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    this.setState("connecting");
    let ws;
    try {
      ws = new WebSocket(this.url());
    } catch (err) { // an address that this page may not connect to, as ws: from https:
      this.closed = { code: 0, reason: err.message, opened: false };
      this.setState("closed");
      return;
    }
    this.ws = ws;
    this.conn = "";
    this.unseen = []; // sent on this connection, not seen to come back
    ws.binaryType = "arraybuffer";
    ws.onopen = () => this.opened();
    ws.onmessage = (event) => (this.echo ? this.echoed(event.data) : this.record(event.data));
    ws.onclose = ({ code, reason }) => this.lost(code, reason);
    this.timer = setTimeout(() => this.lost(1006, ""), openTimeout);
  }

  // close ends it for good.
  close() {
    clearTimeout(this.timer);
    this.drop();
    this.closed = null;
    this.setState("closed");
  }

  // cut takes the connection away, as a bad network would.
  cut() {
    if (this.state === "open") this.lost(0, "", cutWait);
  }

  // hurry ends a wait: something says that the network is back.
  hurry() {
    if (this.state === "waiting") this.open();
  }

  // send reports whether the text was sent.
  send(text) {
    if (this.state !== "open") return false;
    if (!this.conn) this.unseen.push({ text, at: performance.now() }); // else what is ours is known by its id
    this.sent = text;
    this.ws.send(text);
    return true;
  }

  // target is what the connection is to, wherever in it the next one begins.
  target() {
    return this.echo ? echoURL(this.address) : channelURL(this.address, this.channel);
  }

  url() {
    return this.echo ? this.target() : `${this.target()}&since=${this.since}`;
  }

  opened() {
    clearTimeout(this.timer);
    this.openedAt = Date.now();
    this.catchingUp = !this.echo && this.lostAt > 0;
    this.setState("open");
    if (this.lostAt) this.reportBack({ away: this.openedAt - this.lostAt, caughtUp: 0, gap: false, resumes: !this.echo });
  }

  lost(code, reason, wait = 0) {
    clearTimeout(this.timer);
    const opened = this.state === "open";
    this.drop();
    this.closed = { code, reason, opened };
    if (opened && code !== 0) this.listenOnly = code === 1008 && reason === notAllowed;
    this.refused = opened && (this.listenOnly || code === 1009) ? this.sent : "";
    if (opened) {
      this.lostAt = Date.now();
      if (this.lostAt - this.openedAt > settled) this.tries = 0;
    }
    // One that never was open has a wrong address, or is not let in.
    if (!this.lostAt || closedForGood(code, reason)) {
      this.setState("closed");
      return;
    }
    wait ||= waitMin + Math.random() * (Math.min(waitMax, 1000 * 2 ** this.tries++) - waitMin);
    this.retryAt = performance.now() + wait;
    this.timer = setTimeout(() => this.open(), wait);
    this.setState("waiting");
  }

  // drop forgets the WebSocket: what it still says is nobody's business.
  drop() {
    const ws = this.ws;
    if (!ws) return;
    this.ws = null;
    ws.onopen = ws.onmessage = ws.onclose = null;
    ws.close();
  }

  setState(state) {
    this.state = state;
    this.told.state(this);
  }

  // record reads a message of format=json. It ignores records and keys that it does not know.
  record(data) {
    const now = Date.now();
    let r;
    try {
      r = JSON.parse(data);
    } catch { // another kind of server: shown as it is
      this.told.message({ at: now, offset: null, latency: null, caughtUp: false, from: "server", text: textOf(data) });
      return;
    }
    if (typeof r?.greeting === "string") this.told.greeting(r.greeting);
    if (typeof r?.offset === "number") this.moved(r);
    if (typeof r?.at !== "number" || (r.data === undefined && r.base64 === undefined)) return;
    const old = this.isOld(r, now);
    this.recognise(r, old);
    if (old) this.reportBack({ ...this.report, caughtUp: this.report.caughtUp + 1 });
    this.told.message({
      at: r.at,
      offset: r.offset ?? null,
      latency: old ? null : Math.max(0, now - r.at),
      caughtUp: old,
      from: this.mine.has(r.from) ? "you" : senderWords(r.from ?? ""),
      sender: r.from,
      text: r.data ?? binaryWords(r.base64),
    });
  }

  // moved takes the position from a record that has one, and reports a loss before it.
  moved(r) {
    const [epoch, offset] = this.since.split(":");
    if (r.epoch !== epoch) this.mine.clear(); // ids of another life
    if (r.epoch) this.since = `${r.epoch}:${r.offset}`;
    if (r.conn) {
      this.conn = r.conn;
      this.mine.add(r.conn);
    }
    const follows = r.epoch === epoch; // the records before it
    if (r.gap || (follows && r.prev > Number(offset))) {
      const lost = follows ? { after: Number(offset), upTo: r.prev ?? r.offset } : null; // null: not known
      this.reportBack({ away: 0, caughtUp: 0, resumes: true, ...this.report, gap: true, lost });
    }
  }

  // reportBack reports what a return has brought so far.
  reportBack(report) {
    this.report = report;
    this.told.back(report);
  }

  // isOld reports whether a publication was made before this connection opened. The
  // server's clock may be off: the least difference seen so far is taken for that.
  isOld(r, now) {
    this.catchingUp &&= r.at + (this.skew ?? 0) < this.openedAt;
    if (!this.catchingUp) this.skew = Math.min(this.skew ?? Infinity, now - r.at);
    return this.catchingUp;
  }

  // recognise learns this connection's id, which a complete resume does not tell, from
  // the first own message that comes back.
  recognise(r, old) {
    if (this.conn || old || r.from === "api" || r.data !== this.unseen[0]?.text) return;
    this.conn = r.from;
    this.mine.add(r.from);
    this.unseen.length = 0;
  }

  // echoed reads a message of /echo, which come back in the order they were sent. One
  // that is not the next expected is the server's own, such as its greeting.
  echoed(data) {
    const now = performance.now();
    const own = data === this.unseen[0]?.text;
    const { at } = own ? this.unseen.shift() : {};
    this.told.message({
      at: Date.now(),
      offset: null,
      latency: own ? Math.round((now - at) * 10) / 10 : null,
      caughtUp: false,
      from: own ? "you" : "server",
      text: textOf(data),
    });
  }
}

const textOf = (data) => (typeof data === "string" ? data : binaryWords(base64Of(data)));
