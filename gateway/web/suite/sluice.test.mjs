// sluice.js in Node.js against a gateway: what it delivers, over both transports.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Follower, serverOf } from "./follower.mjs";
import { Gateway, Wire } from "./gateway.mjs";

const transports = { WebSocket: (host, channel) => `ws://${host}/ws/${channel}`, SSE: (host, channel) => `http://${host}/sse/${channel}` };

// scene returns a gateway, a wire in front of it, and what makes URLs through the wire.
async function scene(t, ...flags) {
  const gateway = await Gateway.start(...flags);
  t.after(() => gateway.stop());
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  return { gateway, wire, host: new URL(wire.url).host };
}

const bytes = { "Content-Type": "application/octet-stream" };

for (const [name, urlOf] of Object.entries(transports)) {
  test(`${name}: history on joining, text and bytes, and the position of each message`, async (t) => {
    const { gateway, host } = await scene(t, "--greeting", "Welcome");
    const channel = "it's/日本 ".trim();
    for (const text of ["one", "two", "three"]) await gateway.publish(channel, text);
    const positions = [];
    const f = new Follower(t, urlOf(host, encodeURIComponent(channel)), {
      history: 2,
      onMessage: (m, { subscription }) => positions.push([subscription.position, `${m.epoch}:${m.offset}`, subscription.state]),
    });
    assert.equal(f.subscription.state, "connecting");
    await f.has("three");
    const odd = "CR \r LF \n U+2028 \u2028id: x:1 and \u{1f980}";
    await gateway.publish(channel, odd);
    await gateway.publish(channel, new Uint8Array([0, 255, 128]), bytes);
    await gateway.publish(channel, "last");
    await f.has("last");
    assert.deepEqual(f.data, ["two", "three", odd, new Uint8Array([0, 255, 128]), "last"]);
    assert.deepEqual(f.messages.map((m) => [m.offset, m.prev, m.from, m.channel]), [2, 3, 4, 5, 6].map((n) => [n, n - 1, "api", channel]));
    assert.ok(f.messages.every((m) => Math.abs(m.time - Date.now()) < 120_000));
    for (const [now, own, state] of positions) assert.deepEqual([now, state], [own, "open"]);
    assert.deepEqual(f.greetings, ["Welcome"]);
    assert.deepEqual(f.gaps, []);
    assert.deepEqual(f.states, [{ state: "connecting" }, { state: "open" }]);
  });

  test(`${name}: a connection lost again and again loses nothing and repeats nothing`, async (t) => {
    const { gateway, wire, host } = await scene(t);
    const f = new Follower(t, urlOf(host, "news"));
    await f.in("open");
    let n = 0;
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 10; i++) await gateway.publish("news", `m${++n}`);
      wire.cut(); // messages may be on their way
      for (let i = 0; i < 10; i++) await gateway.publish("news", `m${++n}`);
      await f.in("waiting");
      wire.mend();
      f.subscription.retryNow();
      if (round % 2) f.subscription.cut(0); // while it is connecting
      await f.in("open");
    }
    await f.has(`m${n}`);
    assert.deepEqual(f.data, Array.from({ length: n }, (_, i) => `m${i + 1}`));
    assert.deepEqual(f.gaps, []);
  });

  test(`${name}: the position of an earlier life is where a new one begins`, async (t) => {
    const { gateway, host } = await scene(t);
    const { epoch } = await gateway.publish("news", "one");
    for (const text of ["two", "three"]) await gateway.publish("news", text);
    const f = new Follower(t, urlOf(host, "news"), { since: `${epoch}:1`, history: 3 });
    await f.has("three");
    assert.deepEqual(f.data, ["two", "three"]);
    f.subscription.close();
    assert.deepEqual(f.state, { state: "closed" });
    await gateway.publish("news", "four");
    const again = new Follower(t, urlOf(host, "news"), { since: f.subscription.position });
    await again.has("four");
    assert.deepEqual([f.data, again.data], [["two", "three"], ["four"]]);
  });

  test(`${name}: a restart and a history that is too short are gaps, and what follows comes`, async (t) => {
    const { gateway, wire, host } = await scene(t, "--history", "3");
    const f = new Follower(t, urlOf(host, "news"));
    await f.in("open");
    const { epoch } = await gateway.publish("news", "m1");
    await f.has("m1");
    wire.cut();
    await f.in("waiting");
    for (let i = 2; i <= 8; i++) await gateway.publish("news", `m${i}`);
    wire.mend();
    f.subscription.retryNow();
    await f.has("m8");
    assert.deepEqual(f.data, ["m1", "m6", "m7", "m8"]);
    assert.deepEqual(f.gaps, [{ from: `${epoch}:1`, to: `${epoch}:5` }]);

    await gateway.stop();
    await f.until(() => f.states.some(({ code, reason }) => code === 1001 && reason === "server is shutting down"), "1001");
    await gateway.run();
    await f.until(() => f.gaps.length === 2);
    const { epoch: next } = await gateway.publish("news", "in the next life");
    await f.has("in the next life");
    assert.deepEqual(f.gaps[1], { from: `${epoch}:8`, to: `${next}:0` });
  });

  test(`${name}: a channel where nothing has been published yet resumes, too`, async (t) => {
    const { gateway, wire, host } = await scene(t);
    const f = new Follower(t, urlOf(host, "quiet"), { history: 5 });
    await f.in("open");
    assert.match(f.subscription.position, /^\w+:0$/);
    wire.cut();
    await f.in("waiting");
    await gateway.publish("quiet", "the first");
    wire.mend();
    await f.has("the first");
    assert.deepEqual(f.gaps, []);
  });

  test(`${name}: a message that something dropped is a gap, and one that comes twice is dropped`, async (t) => {
    const records = [
      { gap: false, channel: "news", epoch: "e", offset: 4, conn: "77" },
      { channel: "news", epoch: "e", offset: 5, prev: 4, at: 1, from: "api", data: "five" },
      { channel: "news", epoch: "e", offset: 9, prev: 5, at: 2, from: "api", data: "behind a hole", tomorrow: true },
      { channel: "news", epoch: "e", offset: 9, prev: 5, at: 2, from: "api", data: "again" },
      { channel: "news", at: 3, from: "api", data: "without a position" },
      { channel: "news", epoch: "e", offset: 20, prev: 12, at: 4, from: "api", data: "behind a loss" },
      { channel: "news", epoch: "f", offset: 2, prev: 1, at: 5, from: "api", data: "of another life" },
      { some: "record of tomorrow" },
      { gap: true, channel: "news", epoch: "f", offset: 7 },
      { channel: "news", epoch: "f", offset: 8, prev: 7, at: 6, from: "77", base64: "AP8=" },
    ];
    const lines = records.map((r) => JSON.stringify(r));
    const stream = (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
      // Byte by byte, so that events end anywhere in what arrives.
      for (const byte of Buffer.from(`retry: 1000\nid: e:4\n\n: a comment\n\n${lines.map((l) => `event: ${/"from"/.test(l) ? "message" : "gap"}\ndata: ${l}\n\n`).join("")}`)) {
        response.write(Buffer.from([byte]));
      }
    };
    const host = await serverOf(t, { socket: (ws) => lines.forEach((line) => ws.send(line)), stream });
    const f = new Follower(t, urlOf(host, "news"));
    await f.until(() => f.messages.length === 6);
    assert.deepEqual(f.data, ["five", "behind a hole", "without a position", "behind a loss", "of another life", new Uint8Array([0, 255])]);
    assert.deepEqual(f.gaps, [{ from: "e:9", to: "e:12" }, { from: "e:20", to: "f:1" }, { from: "f:2", to: "f:7" }]);
    assert.deepEqual(f.messages[1], { channel: "news", epoch: "e", offset: 9, prev: 5, time: 2, from: "api", data: "behind a hole", tomorrow: true });
    assert.equal(f.subscription.position, "f:8");
    assert.equal(f.subscription.id, "77");
  });

  test(`${name}: after close() nothing is called, whatever is under way`, async (t) => {
    const { gateway, host } = await scene(t);
    for (let i = 1; i <= 5; i++) await gateway.publish("news", `m${i}`);
    const f = new Follower(t, urlOf(host, "news"), { history: 5, onMessage: (m, { subscription }) => m.data === "m2" && subscription.close() });
    await f.in("closed");
    const early = new Follower(t, urlOf(host, "news"), { history: 5 });
    early.subscription.close();
    const control = new Follower(t, urlOf(host, "news"), { history: 5 });
    await control.has("m5");
    assert.deepEqual(f.data, ["m1", "m2"]);
    assert.deepEqual([early.data, early.states], [[], [{ state: "closed" }]]);
    f.subscription.retryNow();
    f.subscription.cut();
    assert.equal(f.subscription.state, "closed");
  });

  test(`${name}: after close() in a callback, what arrived with it is not delivered`, async (t) => {
    const lines = [
      { channel: "news", epoch: "e", offset: 5, prev: 2, at: 1, from: "api", data: "behind a loss" },
      { gap: true, channel: "news", epoch: "e", offset: 9 },
    ].map((r) => JSON.stringify(r));
    const stream = (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(`id: e:1\n\ndata: ${lines[0]}\n\nevent: gap\ndata: ${lines[1]}\n\n`);
    };
    let sent;
    const all = new Promise((resolve) => { sent = resolve; });
    const host = await serverOf(t, { socket: (ws) => lines.forEach((line) => ws.send(line, sent)), stream });
    const f = new Follower(t, urlOf(host, "news"), { since: "e:1", onGap: (_, { subscription }) => subscription.close() });
    await f.in("closed");
    if (name === "WebSocket") await all;
    assert.deepEqual([f.gaps, f.data], [[{ from: "e:1", to: "e:2" }], []]);
    assert.equal(f.subscription.position, "e:2"); // so that another subscription gets it
  });

  test(`${name}: what comes when a callback cuts the connection off comes again`, async (t) => {
    const { gateway, host } = await scene(t);
    for (let i = 1; i <= 3; i++) await gateway.publish("news", `m${i}`);
    let cuts = 0;
    const f = new Follower(t, urlOf(host, "news"), { history: 2, onState: ({ state }, { subscription }) => state === "open" && ++cuts < 3 && subscription.cut(0) });
    await f.has("m3");
    assert.deepEqual([f.data, f.gaps], [["m2", "m3"], []]);
  });

  test(`${name}: history and since may be in the URL`, async (t) => {
    const { gateway, host } = await scene(t);
    const { epoch } = await gateway.publish("news", "one");
    await gateway.publish("news", "two");
    for (const query of ["history=1", `since=${epoch}:1`]) {
      const f = new Follower(t, `${urlOf(host, "news")}?${query}`);
      await f.has("two");
      f.subscription.cut();
      f.subscription.retryNow();
      await gateway.publish("news", `after ${query}`);
      await f.has(`after ${query}`);
      assert.equal(f.data[0], "two");
      assert.deepEqual(f.gaps, []);
    }
  });
}

test("publishing: text and bytes, and what cannot be published is not lost silently", async (t) => {
  const { gateway, wire, host } = await scene(t);
  const f = new Follower(t, transports.WebSocket(host, "news"));
  assert.equal(f.subscription.publish("too early"), false);
  await f.in("open");
  const { id } = f.subscription;
  assert.match(id, /^\d+$/);
  assert.equal(f.subscription.publish("text"), true);
  assert.equal(f.subscription.publish(new Uint8Array([1, 2, 3]).subarray(1)), true);
  assert.equal(f.subscription.publish(new Uint8Array([4, 5]).buffer), true);
  await f.until(() => f.messages.length === 3);
  assert.deepEqual(f.data, ["text", new Uint8Array([2, 3]), new Uint8Array([4, 5])]);
  assert.ok(f.messages.every((m) => m.from === id));
  assert.throws(() => f.subscription.publish({ text: "hello" }), /JSON\.stringify/);
  wire.cut();
  await f.in("waiting");
  assert.equal(f.subscription.publish("while away"), false);
  const stream = new Follower(t, transports.SSE(gateway.host, "news"));
  assert.throws(() => stream.subscription.publish("text"), /SSE only receives/);
});

test("own messages left out with echo=off are no gap", async (t) => {
  const { gateway, host } = await scene(t);
  const f = new Follower(t, `${transports.WebSocket(host, "news")}?echo=off`);
  await f.in("open");
  f.subscription.publish("own");
  const control = new Follower(t, transports.WebSocket(host, "news"), { history: 1 });
  await control.has("own");
  await gateway.publish("news", "of another");
  await f.has("of another");
  assert.deepEqual([f.data, f.gaps], [["of another"], []]);
});

test("no position that was stored before is none", async (t) => {
  const { gateway, host } = await scene(t);
  await gateway.publish("news", "one");
  for (const since of [null, undefined, "", "now"]) {
    const f = new Follower(t, transports.WebSocket(host, "news"), { since, history: 1 });
    await f.has("one");
  }
});

test("wrong arguments are errors at once", (t) => {
  for (const [url, options, pattern] of [
    ["nowhere", {}, /Invalid URL/], ["ftp://host/ws/news", {}, /use ws:, wss:, http: or https:/],
    ["ws://host/ws/news", { since: "yesterday" }, /since is not a position/], ["ws://host/ws/news?since=3", {}, /since is not a position/],
  ]) assert.throws(() => new Follower(t, url, options), pattern);
});
