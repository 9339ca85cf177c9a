// @ts-self-types="./sluice.d.ts"
// A client for sluice's channels, in browsers and Node.js 22, over WebSocket (ws:, wss:) or
// SSE (http:, https:). It reconnects by itself, continues after the last message, and reports
// what was lost. It has no dependencies: import it from a gateway, or copy it into a project.
// sluice.d.ts describes the options; the protocol is that of gateway/PROTOCOL.md.

const waitMin = 500; // ms before the first retry, at random up to twice as long
const doublings = 4; // of the wait, with each failure
const openTimeout = 15_000; // ms; a longer attempt is abandoned
const healthy = 10_000; // ms; a connection that lasted this long starts the back-off over

export const subscribe = (url, options) => new Subscription(url, options);

class Subscription {
  #url; #options; #attempt; #timer; #socket = null; #life = new AbortController();
  #state = "connecting"; #openedAt = 0; #failures = 0; #denied = false;
  #epoch = ""; #offset = 0; #id = "";

  constructor(url, options = {}) {
    this.#url = new URL(url, globalThis.location?.href);
    const { protocol, searchParams: query } = this.#url;
    this.#options = { history: query.get("history"), since: query.get("since"), ...options };
    const { since } = this.#options;
    if (!/^(ws|http)s?:$/.test(protocol)) throw new TypeError(`${url}: use ws:, wss:, http: or https:`);
    if (this.#isSocket && !globalThis.WebSocket) throw new Error("No WebSocket here: use Node.js 22, or the /sse/ address");
    if (since && since !== "now") {
      if (!/^\w+:\d+$/.test(since)) throw new TypeError(`since is ${since}: use a position, as EPOCH:OFFSET`);
      [this.#epoch, this.#offset] = [since.split(":")[0], Number(since.split(":")[1])];
    }
    globalThis.addEventListener?.("online", () => this.retryNow(), { signal: this.#life.signal });
    queueMicrotask(() => this.#state === "connecting" && this.#connect()); // the caller has its result by then
  }

  get state() { return this.#state; }
  get position() { return this.#epoch && `${this.#epoch}:${this.#offset}`; }
  get id() { return this.#id; }

  publish(data) {
    if (!this.#isSocket) throw new Error("SSE only receives: use the /ws/ address to publish");
    if (typeof data !== "string" && !ArrayBuffer.isView(data) && !(data instanceof ArrayBuffer) && !(data instanceof Blob)) {
      throw new TypeError("publish takes a string or bytes: use JSON.stringify for an object");
    }
    if (this.#state !== "open" || this.#socket.readyState !== 1) return false;
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
      this.#timer = setTimeout(() => this.#lost(1006, "timeout"), openTimeout);
      await (this.#isSocket ? this.#openSocket(url, signal) : this.#openStream(url, signal));
    } catch (err) { // of the token function, or of fetch
      if (!signal.aborted) this.#lost(1006, String(err?.message ?? err));
    }
  }

  #address(token) {
    const url = new URL(this.#url), query = url.searchParams;
    query.delete("history");
    query.delete("since");
    query.set("format", "json");
    if (this.position) query.set("since", this.position);
    else if (this.#options.history) query.set("history", this.#options.history);
    else query.set("since", "now");
    if (token) query.set("token", token);
    return url.href;
  }

  #openSocket(url, signal) {
    let socket;
    try {
      socket = this.#socket = new WebSocket(url);
    } catch (err) { // the page may not connect there, for example from https: to ws:
      return this.#stop({ reason: err.message });
    }
    signal.addEventListener("abort", () => socket.close());
    socket.addEventListener("open", () => this.#epoch && this.#opened(), { signal });
    socket.addEventListener("message", ({ data }) => this.#record(data), { signal });
    socket.addEventListener("close", ({ code, reason }) => this.#lost(code, reason), { signal });
  }

  async #openStream(url, signal) { // fetch, not EventSource: it shows the status of a refusal
    const response = await fetch(url, { signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
    if (!response.ok) {
      const reason = (await response.text()).trim();
      return signal.aborted || this.#lost(response.status, reason, 1000 * (Number(response.headers.get("Retry-After")) || 0));
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    if (this.#epoch) this.#opened();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream ended");
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) if (!signal.aborted) this.#event(event);
    }
  }

  #event(text) {
    const fields = {};
    for (const line of text.split("\n")) {
      const [, name, value] = line.match(/^(\w+): ?(.*)$/s) ?? [];
      if (name) fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
    }
    const { event, data, id } = fields;
    if (event === "greeting") return call(this.#options.onGreeting, data);
    if (data !== undefined && event !== "close") this.#record(data);
    else if (id && !this.#epoch) this.#moveTo(...id.split(":"));
    if (event === "close") this.#lost(JSON.parse(data).code, JSON.parse(data).reason);
  }

  #record(text) {
    const { base64, at, ...r } = JSON.parse(text), { signal } = this.#attempt, from = this.position;
    if ("greeting" in r) return call(this.#options.onGreeting, r.greeting);
    if (r.conn) this.#id = r.conn;
    const follows = r.epoch !== undefined && r.epoch === this.#epoch;
    if (follows && "from" in r && r.offset <= this.#offset) return; // delivered before
    const lostTo = r.gap ? r.offset : follows && r.prev > this.#offset && this.#url.searchParams.get("echo") !== "off" ? r.prev : null;
    if (lostTo !== null) {
      this.#moveTo(r.epoch, lostTo);
      call(this.#options.onGap, { from, to: this.position });
    }
    if (r.epoch) this.#moveTo(r.epoch, r.offset);
    if (!("from" in r) || signal.aborted) return;
    this.#failures = 0;
    if (base64 !== undefined) r.data = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    call(this.#options.onMessage, { ...r, time: at });
  }

  #moveTo(epoch, offset) {
    [this.#epoch, this.#offset] = [epoch, Number(offset)];
    if (this.#state === "connecting") this.#opened(); // a full gateway may accept a connection and close it at once
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#denied = false;
    this.#openedAt = performance.now();
    this.#set("open");
  }

  #lost(code, reason, least = 0) {
    if (this.#state === "open" && performance.now() - this.#openedAt > healthy) this.#failures = 0;
    if (this.#isFinal(code, reason)) return this.#stop({ code, reason });
    this.#drop();
    const wait = Math.max(least, waitMin * (1 + Math.random()) * 2 ** Math.min(this.#failures++, doublings));
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#set("waiting", { retryAt: Math.ceil(Date.now() + wait), code, reason });
  }

  #isFinal(code, reason) { // another attempt would end the same way
    const renews = typeof this.#options.token === "function";
    if (code === 401 && renews && !this.#denied) return !(this.#denied = true);
    if (code === 3005) return !renews;
    return code === 1002 || (code === 1008 && reason !== "no response to ping") ||
      (code >= 400 && code < 500 && ![408, 425, 429].includes(code));
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
