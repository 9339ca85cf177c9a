// A subscription through sluice.js, in this process, and all that its callbacks were called with.

import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import http from "node:http";
import { WebSocketServer } from "ws";
import { subscribe } from "../page/sluice.js";

const patience = 60_000; // ms; what is waited for comes much sooner

export class Follower {
  constructor(t, url, options = {}) {
    this.states = [];
    this.messages = [];
    this.gaps = [];
    this.greetings = [];
    this.waits = []; // ms, of each state waiting
    this.changed = new EventEmitter();
    const keeps = (list, name) => (value) => {
      list.push(value);
      options[name]?.(value, this);
      this.changed.emit("change");
    };
    this.subscription = subscribe(url, {
      ...options,
      onMessage: keeps(this.messages, "onMessage"),
      onGap: keeps(this.gaps, "onGap"),
      onGreeting: keeps(this.greetings, "onGreeting"),
      onState: (change) => {
        if (change.state === "waiting") this.waits.push(change.retryAt - Date.now());
        keeps(this.states, "onState")(change);
      },
    });
    t.after(() => this.subscription.close());
  }

  get state() { return this.states.at(-1); }
  get data() { return this.messages.map((m) => m.data); }

  // until waits until the condition holds.
  async until(condition, what = String(condition)) {
    const late = AbortSignal.timeout(patience);
    while (!condition()) {
      await once(this.changed, "change", { signal: late }).catch(() => {
        assert.fail(`not in time: ${what}; states ${JSON.stringify(this.states.slice(-5))}, last message ${JSON.stringify(this.messages.at(-1))}`);
      });
    }
  }

  // in waits for the state.
  async in(state) {
    await this.until(() => this.state?.state === state, state);
    return this.state;
  }

  has(data) {
    return this.until(() => this.data.includes(data), data);
  }

  // fails waits until n more attempts have failed, and begins each at once.
  async fails(n) {
    for (const end = this.waits.length + n; this.waits.length < end;) {
      this.subscription.retryNow();
      const before = this.waits.length;
      await this.until(() => this.waits.length > before, `failure ${before + 1}`);
    }
  }
}

// backsOff checks waits, of which each is at random between least and twice as much.
export function backsOff(waits, ...least) {
  assert.equal(waits.length, least.length);
  for (const [i, ms] of least.entries()) {
    const slack = 400; // ms; how long this process may be held up before it looks at the clock
    assert.ok(waits[i] > ms - slack && waits[i] <= 2 * ms + 1, `wait ${i + 1} is ${waits[i]} ms, want ${ms} to ${2 * ms}`);
  }
}

// serverOf speaks the protocol by hand. socket(ws, url, n) and stream(response, url, n) answer the
// nth connection.
export async function serverOf(t, { socket, stream }) {
  let n = 0;
  const server = http.createServer((request, response) => stream(response, request.url, ++n));
  new WebSocketServer({ server }).on("connection", (ws, request) => socket(ws, request.url, ++n));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); server.closeAllConnections(); });
  return `127.0.0.1:${server.address().port}`;
}
