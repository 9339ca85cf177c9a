// The official library as a test sees it: what it says is noted, and can be waited for.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Centrifuge as JSONClient } from "centrifuge";
import { Centrifuge as ProtobufClient } from "centrifuge/build/protobuf";
import { EventSource } from "eventsource";
import { WebSocket } from "ws";
import { token } from "./node.mjs";

const patience = 30_000; // ms for what is expected

// An encoding has its build of the library, and how a value is data there.
export const encodings = {
  json: { name: "JSON", Library: JSONClient, pack: (value) => value, unpack: (data) => data },
  protobuf: {
    name: "Protobuf", Library: ProtobufClient,
    pack: (value) => Buffer.from(JSON.stringify(value)),
    unpack: (data) => JSON.parse(Buffer.from(data).toString()),
  },
};

// transport is what clients are connected by: websocket, http_stream or sse. TRANSPORT names another than the first.
export const transport = process.env.TRANSPORT || "websocket";

// ordered: commands that do not wait for each other's replies arrive in their order. Each has a request of its own else, and
// requests overtake each other on their way.
export const ordered = transport === "websocket";

// both runs a test with each build of the library. Events are JSON.
export function both(test, name, body) {
  for (const encoding of Object.values(encodings)) {
    if (transport !== "sse" || encoding === encodings.json) test(`${encoding.name}: ${name}`, (t) => body(t, encoding));
  }
}

// emulated gives an address of the protocol, that of WebSocket clients, and the library's options for another transport.
export function emulated(transport, url) {
  if (transport === "websocket" || typeof url !== "string") return [url, {}];
  const at = (path) => new URL(path, url.replace("ws", "http")).href;
  return [
    [{ transport, endpoint: at(`/connection/${transport}`) }],
    { emulationEndpoint: at("/emulation"), eventsource: EventSource, fetch, readableStream: ReadableStream },
  ];
}

// Heard notes the events of an emitter.
export class Heard {
  constructor(emitter, names, unpack) {
    this.list = [];
    this.taken = {};
    this.waiting = new Set();
    for (const name of names) {
      emitter.on(name, (what) => {
        const data = name === "publication" && unpack ? { data: unpack(what.data) } : {};
        this.list.push({ event: name, ...what, ...data });
        for (const wake of this.waiting) wake();
      });
    }
  }

  all(event) { return this.list.filter((e) => e.event === event); }

  // next waits for the next event of that name that no next has given yet.
  async next(event) {
    const i = this.taken[event] = (this.taken[event] ?? 0) + 1;
    await this.until(() => this.all(event).length >= i, event);
    return this.all(event)[i - 1];
  }

  // data waits for so many publications and gives the data of all that came.
  async data(count) {
    await this.until(() => this.all("publication").length >= count, `${count} publications`);
    return this.all("publication").map((p) => p.data);
  }

  async until(condition, what) {
    const end = Date.now() + patience;
    while (!condition()) {
      const left = end - Date.now();
      if (left <= 0) assert.fail(`waited in vain for ${what}; heard ${JSON.stringify(this.list)}`);
      await new Promise((resolve) => {
        const wake = () => { clearTimeout(timer); this.waiting.delete(wake); resolve(); };
        const timer = setTimeout(wake, left);
        this.waiting.add(wake);
      });
    }
  }
}

// Client is the library with one connection. It ends with the test.
export class Client {
  constructor(t, encoding, url, options = {}) {
    this.encoding = encoding;
    const by = transport === "sse" && encoding !== encodings.json ? "websocket" : transport; // the library has no other events
    const [endpoint, emulation] = emulated(by, url);
    this.sdk = new encoding.Library(endpoint, { websocket: WebSocket, minReconnectDelay: 10, maxReconnectDelay: 100, ...emulation, ...options });
    this.heard = new Heard(this.sdk, [
      "state", "connecting", "connected", "disconnected", "error", "message",
      "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave",
    ], encoding.unpack);
    t.after(() => this.sdk.disconnect());
  }

  // of gives the connected client of a user.
  static async of(t, encoding, url, user, claims = {}, options = {}) {
    const c = new Client(t, encoding, url, { token: user === "" ? "" : token(user, claims), ...options });
    await c.connect();
    return c;
  }

  async connect() {
    this.sdk.connect();
    this.id = (await this.heard.next("connected")).client;
    return this;
  }

  // channel gives a subscription that has been asked for, and what is heard of it.
  channel(name, options = {}) {
    const sub = this.sdk.newSubscription(name, options);
    sub.heard = new Heard(sub, ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"], this.encoding.unpack);
    sub.subscribe();
    return sub;
  }

  // subscribed gives a subscription that has begun.
  async subscribed(name, options) {
    const sub = this.channel(name, options);
    sub.first = await sub.heard.next("subscribed");
    return sub;
  }

  // refused gives the event with which a subscription was refused for good.
  async refused(name, options) {
    const sub = this.channel(name, options);
    const event = await sub.heard.next("unsubscribed");
    assert.deepEqual(sub.heard.all("subscribed"), []);
    this.sdk.removeSubscription(sub);
    return event;
  }

  publish(channel, value) { return this.sdk.publish(channel, this.encoding.pack(value)); }
}

// Raw is a WebSocket on which a test itself speaks.
export class Raw {
  static async open(t, url, ...protocols) {
    const r = new Raw();
    r.socket = new WebSocket(url, protocols);
    r.heard = new Heard({
      on: (event, heard) => r.socket.on(event, (a, b) => heard(
        event === "message" ? { bytes: a, binary: b } : { code: a, reason: String(b) })),
    }, ["message", "close"]);
    t.after(() => r.socket.terminate());
    await once(r.socket, "open");
    return r;
  }

  send(...commands) { this.socket.send(commands.map((c) => JSON.stringify(c)).join("\n")); }

  // lines gives the next so many lines of what came, parsed. Pings are not counted.
  async lines(count) {
    const read = () => this.heard.all("message").flatMap((m) => String(m.bytes).split("\n")).filter((l) => l !== "" && l !== "{}");
    await this.heard.until(() => read().length >= count, `${count} lines`);
    return read().map((l) => JSON.parse(l));
  }

  // ended gives code and reason of the Close frame.
  async ended() {
    const { code, reason } = await this.heard.next("close");
    return { code, reason };
  }
}

// codeOf gives the code of the error with which an answer fails.
export async function codeOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  assert.fail("there is no error");
}

export const pick = (event, ...names) => Object.fromEntries(names.map((n) => [n, event[n]]));

// quiet waits a moment in which nothing should happen.
export const quiet = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
