// One channel over a plain WebSocket or SSE, for the page: what subscribe of sluice.js reports, in
// words and rows. It knows no fields: it reports to the functions it is given.

import { channelURL, streamURL } from "./address.js";
import { subscribe } from "./sluice.js";
import { bytesWords, capital, closeWords, messages, notAllowed, notReached, notReachedAgain, refusedWords, seconds } from "./words.js";

const historyMax = 20; // messages that are shown on joining
const cutWait = 5_000; // ms, long enough to publish something meanwhile
const full = [429, 503, 1001, 1012, 1013]; // what a gateway answers or closes with that has no room now
const fullWaitMin = 2_000; // ms, between two attempts to reach a gateway that is full
const fullWaitMax = 30_000;
const tick = /^tick \d+$/;

export class Plain {
  // settings: { address, channel, sse, token, since }; told: see page.js.
  constructor(settings, told) {
    Object.assign(this, settings, { told });
    this.state = "closed"; // or connecting, open, waiting
    this.mine = new Set(); // ids that this client's connections had
    this.skew = null; // least of own clock minus the server's, over all live messages
    this.lostAt = 0; // when the last good connection was lost; 0 before the first
    this.listenOnly = false; // the server said that publishing is off
    this.sent = ""; // the last text
    this.refusals = 0; // of first attempts, by a gateway that is full
  }

  get target() { return this.sse ? streamURL(this.address, this.channel) : channelURL(this.address, this.channel); }
  get position() { return this.subscription?.position ?? this.since; }
  get action() { return { open: "Cut connection", waiting: "Reconnect now" }[this.state] ?? ""; }

  open(since = this.since) {
    clearTimeout(this.timer);
    this.unseen = []; // sent on this connection, not seen to come back
    this.old = 0;
    const subscription = subscribe(this.target, {
      ...(since ? { since } : { history: historyMax }),
      token: this.token,
      onMessage: (m) => this.message(m),
      onGap: (gap) => this.gap(gap),
      onGreeting: (text) => this.told.note(`Greeting: ${text}`),
      onState: (s) => this.subscription === subscription && this.changed(s),
    });
    this.subscription = subscription;
  }

  // close ends it for good.
  close() {
    this.end();
    this.state = "closed";
    this.told.state(this, "Disconnected");
  }

  end() {
    clearTimeout(this.timer);
    const { subscription } = this;
    this.since = this.position;
    this.subscription = null;
    subscription?.close();
    this.sender?.close();
  }

  act() {
    if (this.state === "waiting") this.hurry();
    else this.subscription.cut(cutWait);
  }

  // hurry ends a wait: something says that the network is back.
  hurry() {
    if (this.subscription) this.subscription.retryNow();
    else if (this.state === "waiting") this.open();
  }

  // --- state

  changed({ state, retryAt, code, reason }) {
    const was = this.state;
    this.state = state;
    switch (state) {
      case "connecting":
        if (was !== "waiting" || !this.lostAt) this.told.state(this, `Connecting to ${this.address.host}…`);
        else this.told.state(this, "Reconnecting…");
        break;
      case "open":
        this.opened();
        break;
      default: // waiting or closed
        this.ended(was === "open", { retryAt, code, reason });
    }
  }

  opened() {
    this.openedAt = Date.now();
    this.unseen = [];
    this.catchingUp = true;
    this.report = null;
    if (!this.lostAt) this.told.joined(this);
    this.told.state(this, `Connected to ${this.channel}${this.listenOnly ? " (subscribe only)" : ""}`);
    if (this.lostAt) this.back({ away: this.openedAt - this.lostAt, caughtUp: 0, gap: false });
  }

  ended(opened, { retryAt, code, reason }) {
    const words = capital(opened ? lostWords(code, reason) : notReachedAgain);
    if (opened) {
      this.lostAt = Date.now();
      this.told.note(words);
      const refused = code === 1008 && reason === notAllowed;
      if (refused || code === 1009) this.told.giveBack(this.sent);
      if (refused) return this.reopen();
    }
    if (!this.lostAt) return this.refused(code, reason);
    if (this.state === "waiting") return this.told.state(this, `${words}. Reconnecting`, retryAt);
    this.told.state(this, opened ? words : capital(refusedWords(code, reason)));
    if (wantsToken(code, reason)) this.told.keys();
  }

  // reopen comes back after a message that was not allowed, to go on listening.
  reopen() {
    this.listenOnly = true;
    this.end();
    this.state = "connecting";
    this.open(this.since);
  }

  // refused finds out why the first attempt has failed. A browser does not tell a page why a
  // WebSocket never opened, but it shows the answer to an ordinary request for the same.
  async refused(code, reason) {
    const { subscription } = this;
    this.subscription = null; // one that never was open has a wrong address, or is not admitted
    subscription.close();
    this.state = "connecting";
    const told = code && code !== 1006;
    const answer = told ? { status: code, text: reason } : await this.probe();
    if (this.state !== "connecting" || this.subscription) return; // closed meanwhile
    if (answer?.status === 403 && /history/.test(answer.text)) return this.open("now");
    if (full.includes(answer?.status)) return this.retry(answer);
    this.state = "closed";
    const words = answer ? refusedWords(answer.status, answer.text, this.token) : notReached(this.address.host === location.host, reason);
    this.told.state(this, capital(words));
    if (answer && wantsToken(answer.status, answer.text)) this.told.keys();
  }

  // retry waits for room in a gateway that is full.
  retry({ status, text }) {
    const wait = Math.min(fullWaitMax, fullWaitMin * 2 ** this.refusals++) * (0.5 + Math.random());
    this.timer = setTimeout(() => this.open(), wait);
    this.state = "waiting";
    this.told.state(this, `${capital(refusedWords(status, text))}. Retrying`, Date.now() + wait);
  }

  // probe returns what the gateway answers to a request for the channel, null if the page
  // does not learn it.
  async probe() {
    const url = new URL(streamURL(this.address, this.channel));
    url.searchParams.set("format", "json");
    url.searchParams.set("history", historyMax);
    if (this.token) url.searchParams.set("token", this.token);
    const ended = new AbortController();
    const timer = setTimeout(() => ended.abort(), 5_000);
    try {
      const response = await fetch(url, { signal: ended.signal, headers: { Accept: "text/event-stream" } });
      if (response.ok) return null; // it is the WebSocket that does not get through
      return { status: response.status, text: (await response.text()).trim() };
    } catch {
      return null;
    } finally {
      clearTimeout(timer);
      ended.abort();
    }
  }

  // --- messages

  // back reports what a return has brought so far.
  back(report) {
    this.report = report;
    this.told.back(backWords(report), report.gap);
  }

  gap({ from, to }) {
    const [epoch, offset] = from.split(":");
    const [newEpoch, newOffset] = to.split(":");
    const lost = epoch && epoch === newEpoch ? { after: offset, upTo: newOffset } : null; // null: not known
    if (!lost) this.mine.clear(); // ids of another life
    if (this.catchingUp) this.back({ away: 0, caughtUp: 0, ...this.report, gap: true, lost });
    else this.told.note(backWords({ away: 0, caughtUp: 0, gap: true, lost }), "lost");
  }

  message(m) {
    const now = Date.now();
    const text = typeof m.data === "string" ? m.data : bytesWords(m.data);
    const old = this.isOld(m, now);
    this.recognise(m, text, old);
    const caughtUp = old && this.lostAt > 0;
    if (caughtUp) this.back({ ...this.report, caughtUp: this.report.caughtUp + 1 });
    this.told.message({
      at: m.time,
      offset: m.offset ?? null,
      latency: old ? null : Math.max(0, now - m.time),
      how: caughtUp ? "caught up" : old ? "history" : undefined,
      own: this.mine.has(m.from),
      from: m.from === "api" ? "backend" : "",
      sender: m.from,
      text,
      tick: tick.test(text),
    });
  }

  // isOld reports whether a publication was made before this connection opened. The server's clock
  // may be off: the least difference seen so far is taken for that. Before it is known, no more
  // messages count as old than were asked for.
  isOld(m, now) {
    this.catchingUp &&= m.time + (this.skew ?? 0) < this.openedAt && (this.lostAt > 0 || this.old++ < historyMax);
    if (!this.catchingUp) this.skew = Math.min(this.skew ?? Infinity, now - m.time);
    return this.catchingUp;
  }

  // recognise learns this connection's id, which a client that begins in the past is not
  // told, from the first own message that comes back.
  recognise(m, text, old) {
    const { id } = this.subscription ?? {};
    if (id) this.mine.add(id);
    if (this.sender?.id) this.mine.add(this.sender.id);
    if (old || this.sse || m.from === "api" || text !== this.unseen[0]) return;
    if (!id) this.mine.add(m.from);
    this.unseen.length = 0;
  }

  // --- sending

  // send reports whether the text was sent.
  send(text) {
    if (this.state !== "open") return false;
    if (this.listenOnly) {
      this.told.note(`Not sent: ${closeWords(1008, notAllowed)}`);
      this.told.giveBack(text);
      return true;
    }
    this.sent = text;
    if (this.sse) return this.sendBeside(text);
    if (this.unseen.length < 100) this.unseen.push(text);
    return this.subscription.publish(text);
  }

  // sendBeside publishes over a WebSocket of its own: SSE only receives.
  sendBeside(text) {
    if (this.sender?.state === "open") return this.sender.publish(text);
    if (this.sender) return false; // on its way
    let waiting = text;
    const sender = subscribe(channelURL(this.address, this.channel), {
      since: "now",
      token: this.token,
      onState: ({ state, code, reason }) => {
        if (state === "connecting") return;
        if (state === "open") {
          this.mine.add(sender.id);
          if (waiting) sender.publish(waiting);
          waiting = "";
          return;
        }
        if (this.sender !== sender) return;
        this.sender = null;
        sender.close();
        if (reason !== notAllowed && !waiting) return;
        this.listenOnly = reason === notAllowed;
        this.told.note(`Not sent: ${lostWords(code, reason)}`);
        this.told.giveBack(text);
      },
    });
    this.sender = sender;
    return true;
  }
}

// wantsToken reports whether a token, or another one, may help.
function wantsToken(status, text) {
  return status === 401 || status === 3005 || (status === 403 && text.includes("token"));
}

function lostWords(code, reason) {
  if (reason === "cut" && code === 1006) return "you cut the connection";
  return `connection closed (${code}): ${closeWords(code, reason)}`;
}

// backWords says what a return has brought. lost is between which offsets messages are gone, null
// when that is not known.
function backWords({ away, caughtUp, gap, lost }) {
  const back = away ? `Back after ${seconds(away)}` : "This tab was too slow";
  const came = `caught up on ${messages(caughtUp)}`;
  if (gap) {
    const gone = lost ? `messages after #${lost.after} and up to #${lost.upTo} lost, no longer in the history`
      : "messages may be lost, because the channel's history started over";
    return `${back}: ${gone}${caughtUp ? `; ${came}` : ""}`;
  }
  return `${back}: ${caughtUp ? `${came}, none lost` : "nothing was missed"}`;
}
