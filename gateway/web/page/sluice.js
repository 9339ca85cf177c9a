// @ts-self-types="./sluice.d.ts"
// A client for sluice's channels, in browsers and Node.js 22, over WebSocket (ws:, wss:) or
// SSE (http:, https:). It reconnects by itself, continues after the last message, and reports
// what was lost. It has no dependencies: import it from a gateway, or copy it into a project.
// sluice.d.ts describes the options; the protocol is that of gateway/PROTOCOL.md.

const waitMin = 500; // ms before the first retry, at random up to twice as long
const doublings = 4; // of the wait, one with each failure
const waitMax = 3_600_000; // ms; no server can ask for more
const openTimeout = 15_000; // ms; a longer attempt is abandoned
const healthy = 10_000; // ms; after a connection that lasted this long, the wait is short again

export const subscribe = (url, options) => new Subscription(url, options);

class Subscription {
  #url; #options; #socket; #attempt; #timer; #life = new AbortController();
  #state = "connecting"; #openedAt = 0; #failures = 0; #denied = false;
  #epoch = ""; #offset = 0; #id = "";

  constructor(url, options) {
    this.#url = new URL(url, globalThis.location?.href);
    if (!/^(ws|http)s?:$/.test(this.#url.protocol)) throw new TypeError(`${url}: use ws:, wss:, http: or https:`);
    if (this.#isSocket && !globalThis.WebSocket) throw new Error("no WebSocket here: use Node.js 22, or the /sse/ address");
    this.#options = { ...Object.fromEntries(this.#url.searchParams), ...options }; // history, since and token
    const { since } = this.#options, [position, epoch, offset] = /^(\w+):(\d+)$/.exec(since) ?? [];
    if (position) [this.#epoch, this.#offset] = [epoch, Number(offset)];
    else if (since && since !== "now") throw new TypeError("since is not a position, EPOCH:OFFSET");
    globalThis.addEventListener?.("online", () => this.retryNow(), { signal: this.#life.signal });
    queueMicrotask(() => this.#state !== "closed" && this.#connect()); // the caller has its result by then
  }

  get state() { return this.#state; }
  get position() { return this.#epoch && `${this.#epoch}:${this.#offset}`; }
  get id() { return this.#id; }

  publish(data) {
    if (!this.#isSocket) throw new Error("SSE only receives: use the /ws/ address to publish");
    if (typeof data !== "string" && !ArrayBuffer.isView(data) && !(data instanceof ArrayBuffer) && !(data instanceof Blob)) {
      throw new TypeError("publish takes a string or bytes: use JSON.stringify for an object");
    }
    if (this.#state !== "open" || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    return true;
  }

  retryNow() {
    if (this.#state === "waiting") this.#connect();
  }

  cut(wait) {
    if (this.#state === "open" || this.#state === "connecting") this.#lost(1006, "cut", wait);
  }

  close() {
    if (this.#state !== "closed") this.#stop();
  }

  get #isSocket() { return this.#url.protocol.startsWith("ws"); }

  async #connect() {
    this.#drop();
    const { signal } = this.#attempt = new AbortController();
    this.#id = "";
    this.#set("connecting");
    try {
      const { token } = this.#options;
      const url = this.#address(typeof token === "function" ? await token() : token);
      if (signal.aborted) return;
      this.#timer = setTimeout(() => this.#lost(1006, "no answer in time"), openTimeout);
      await (this.#isSocket ? this.#openSocket(url, signal) : this.#openStream(url, signal));
    } catch (err) { // of the token function, of fetch, or the end of the stream
      if (!signal.aborted) this.#lost(1006, err?.message ?? String(err));
    }
  }

  #address(token) {
    const url = new URL(this.#url), query = url.searchParams, { history } = this.#options;
    for (const name of ["history", "since"]) query.delete(name);
    query.set("format", "json");
    if (this.position || !history) query.set("since", this.position || "now");
    else query.set("history", history);
    if (token) query.set("token", token);
    return url.href;
  }

  #openSocket(url, signal) {
    try {
      this.#socket = new WebSocket(url);
    } catch (err) { // the page may not connect there, as from https: to ws:
      return this.#stop({ reason: err.message });
    }
    const on = (type, handle) => this.#socket.addEventListener(type, handle, { signal });
    signal.addEventListener("abort", () => this.#socket.close());
    on("open", () => this.#epoch && this.#opened());
    on("message", ({ data }) => this.#record(data, signal));
    on("close", ({ code, reason }) => this.#lost(code, reason));
    on("error", () => setTimeout(() => signal.aborted || this.#lost(1006, ""))); // in Node.js 22, no close follows a refusal
  }

  // fetch, not EventSource: it shows the status of a refusal, and Node.js has it.
  async #openStream(url, signal) {
    const response = await fetch(url, { signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
    if (!response.ok) {
      const reason = (await response.text()).trim().slice(0, 200);
      return signal.aborted || this.#lost(response.status, reason, 1000 * response.headers.get("Retry-After") || 0);
    }
    if (!/^text\/event-stream\b/.test(response.headers.get("Content-Type"))) throw new Error("not an event stream");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    if (this.#epoch) this.#opened();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream ended");
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) if (!signal.aborted) this.#event(event, signal);
    }
  }

  #event(text, signal) {
    const fields = { event: "message" };
    for (const line of text.split("\n")) {
      const colon = line.indexOf(":");
      fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
    }
    const { event, data, id } = fields;
    if (data && event !== "close") return this.#record(event === "greeting" ? JSON.stringify({ greeting: data }) : data, signal);
    if (id && !this.#epoch) this.#moveTo(...id.split(":"));
    if (event === "close") this.#lost(JSON.parse(data).code, JSON.parse(data).reason);
  }

  #record(text, signal) {
    let r;
    try {
      r = Object(JSON.parse(text));
    } catch {
      return this.#stop({ reason: "what answers at this address is not sluice" });
    }
    if (r.greeting !== undefined) return call(this.#options.onGreeting, r.greeting);
    const { base64, at, ...message } = r, from = this.position, follows = r.epoch === this.#epoch;
    if (r.conn) this.#id = r.conn;
    if (r.epoch) {
      const isPublication = r.from !== undefined, before = isPublication ? r.prev : r.offset;
      if (isPublication && follows && r.offset <= this.#offset) return; // delivered before
      const behind = from && (!follows || (r.prev > this.#offset && this.#options.echo !== "off")); // prev counts what echo=off left out
      if (!from || r.gap || behind) this.#moveTo(r.epoch, before);
      if (r.gap || behind) call(this.#options.onGap, { from, to: this.position });
      if (signal.aborted) return; // by a callback: the position stays before what is not delivered
      this.#moveTo(r.epoch, r.offset);
    }
    if (r.from === undefined || signal.aborted) return;
    this.#failures = 0;
    if (base64 !== undefined) message.data = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    call(this.#options.onMessage, { ...message, time: at });
  }

  #moveTo(epoch, offset) {
    [this.#epoch, this.#offset] = [epoch, Number(offset)];
    if (this.#state === "connecting") this.#opened(); // not before: a full gateway may accept a connection and close it at once
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#denied = false;
    this.#openedAt = Date.now();
    this.#set("open");
  }

  #lost(code, reason, least = 0) {
    if (this.#state === "open" && Date.now() - this.#openedAt > healthy) this.#failures = 0;
    if (this.#isFinal(code, reason)) return this.#stop({ code, reason });
    this.#drop();
    const backOff = waitMin * (1 + Math.random()) * 2 ** Math.min(this.#failures++, doublings);
    const wait = Math.min(Math.max(least, backOff), waitMax);
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#set("waiting", { retryAt: Math.ceil(Date.now() + wait), code, reason });
  }

  // isFinal reports whether another attempt would end the same way.
  #isFinal(code, reason) {
    const renews = typeof this.#options.token === "function";
    if (code === 401 && renews && !this.#denied) return !(this.#denied = true); // once more, with a fresh token
    if (code === 3005) return !renews;
    if (code === 1008) return reason !== "no response to ping";
    return code === 1002 || (code >= 400 && code < 500 && ![408, 425, 429].includes(code));
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#attempt?.abort();
  }

  #stop(why) {
    this.#drop();
    this.#life.abort();
    this.#set("closed", why);
  }

  #set(state, more) {
    this.#state = state;
    call(this.#options.onState, { state, ...more });
  }
}

// call reports an error of a callback as an uncaught one, and goes on.
function call(callback, argument) {
  try {
    callback?.(argument);
  } catch (err) {
    queueMicrotask(() => { throw err; });
  }
}
