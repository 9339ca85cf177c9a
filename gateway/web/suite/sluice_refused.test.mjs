// sluice.js where it is refused: how long it waits, and where it gives up.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, test } from "node:test";
import { backsOff, Follower, serverOf } from "./follower.mjs";
import { Gateway, sluice } from "./gateway.mjs";

const doubling = [500, 1000, 2000, 4000, 8000, 8000, 8000];

// full returns a gateway that has no room, and the follower that holds its last place.
async function full(t, ...flags) {
  const gateway = await Gateway.start("--max-connections", "1", ...flags);
  t.after(() => gateway.stop());
  const holder = new Follower(t, `ws://${gateway.host}/ws/news`);
  await holder.in("open");
  return { gateway, holder };
}

for (const [name, scheme, path] of [["WebSocket", "ws", "ws"], ["SSE", "http", "sse"]]) {
  test(`${name}: the wait grows while a full gateway accepts and closes at once, with a position and without`, async (t) => {
    const { gateway, holder } = await full(t, "--refuse", "close");
    const { epoch, offset } = await gateway.publish("news", "one");
    for (const since of [undefined, `${epoch}:${offset}`]) {
      const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`, { since });
      await f.in("waiting");
      await f.fails(6);
      backsOff(f.waits, ...doubling);
      for (const { state, code, reason } of f.states) {
        if (state === "waiting") assert.deepEqual([code, reason], [1013, "over a limit: try again later"]);
      }
      if (!since) assert.ok(!f.states.some((s) => s.state === "open"), "a connection that was never served is not shown as open");
      f.subscription.close();
    }
    holder.subscription.close(); // and when there is room again, it is found
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`, { since: `${epoch}:${offset}` });
    await f.in("open");
    await gateway.publish("news", "two");
    await f.has("two");
  });

  test(`${name}: the wait grows while a full gateway refuses, and is as long as it asks for`, async (t) => {
    const { gateway } = await full(t);
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`);
    await f.in("waiting");
    await f.fails(6);
    if (scheme === "ws") {
      backsOff(f.waits, ...doubling);
      assert.ok(f.states.every((s) => s.state !== "waiting" || s.code === 1006));
      return;
    }
    const waiting = f.states.filter((s) => s.state === "waiting");
    for (const { code, reason } of waiting) assert.deepEqual([code, reason], [503, waiting[0].reason]);
    assert.ok(f.waits.every((ms) => ms > 1000 - 400), `Retry-After is at least a second: ${f.waits}`);
    backsOff(f.waits.slice(-3), ...doubling.slice(-3));
  });

  test(`${name}: nobody there, and back when somebody is`, async (t) => {
    const gateway = await Gateway.start();
    t.after(() => gateway.stop());
    await gateway.stop();
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`);
    await f.in("waiting");
    await f.fails(3);
    backsOff(f.waits, ...doubling.slice(0, 4));
    assert.ok(f.states.every((s) => s.state !== "waiting" || s.code === 1006));
    await gateway.run();
    f.subscription.retryNow();
    await f.in("open");
  });

  // Only what has been received or a time of health proves that the next attempt will do better.
  test(`${name}: the wait is short again after a message, and after ten seconds, and not before`, async (t) => {
    mock.timers.enable({ apis: ["Date"], now: Date.now() });
    t.after(() => mock.timers.reset());
    const gateway = await Gateway.start();
    t.after(() => gateway.stop());
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`);
    const cut = async () => {
      await f.in("open");
      f.subscription.cut();
      f.subscription.retryNow();
    };
    for (let i = 0; i < 4; i++) await cut();
    backsOff(f.waits, ...doubling.slice(0, 4));
    await f.in("open");
    mock.timers.tick(9_900);
    await cut();
    assert.ok(f.waits.at(-1) >= 8000, `after 9.9 s: ${f.waits.at(-1)} ms`);
    await f.in("open");
    mock.timers.tick(10_100);
    await cut();
    assert.ok(f.waits.at(-1) <= 1001, `after 10.1 s: ${f.waits.at(-1)} ms`);
    await cut();
    assert.ok(f.waits.at(-1) > 1001 - 2, `at once after that: ${f.waits.at(-1)} ms`);
    await f.in("open");
    await gateway.publish("news", "hello");
    await f.has("hello");
    await cut();
    assert.ok(f.waits.at(-1) <= 1001, `after a message: ${f.waits.at(-1)} ms`);
  });

  test(`${name}: a token is fetched before each connection, and a failure to fetch it is retried`, async (t) => {
    const keys = await keysOf(t);
    const gateway = await Gateway.start("--token-hmac-secret-file", keys.secret);
    t.after(() => gateway.stop());
    let asked = 0;
    const token = async () => {
      if (++asked === 1) throw new Error("not signed in");
      return keys.make("--user", "42", "--channel", "news");
    };
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`, { token });
    const { code, reason } = await f.in("waiting");
    assert.deepEqual([code, reason], [1006, "not signed in"]);
    f.subscription.retryNow();
    await f.in("open");
    f.subscription.cut();
    f.subscription.retryNow();
    await f.in("open");
    assert.equal(asked, 3);
  });

  test(`${name}: an expired token is replaced`, async (t) => {
    const keys = await keysOf(t);
    const gateway = await Gateway.start("--token-hmac-secret-file", keys.secret);
    t.after(() => gateway.stop());
    const token = () => keys.make("--user", "42", "--channel", "news", "--expires", "2s");
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`, { token });
    await f.until(() => f.states.some((s) => s.state === "waiting" && s.code === 3005), "3005");
    await f.until(() => f.states.findLastIndex((s) => s.state === "open") > f.states.findIndex((s) => s.code === 3005), "open again");
  });

  test(`${name}: where another attempt would end the same way, there is none`, async (t) => {
    const gateway = await Gateway.start("--raw", "listen");
    t.after(() => gateway.stop());
    const f = new Follower(t, `${scheme}://${gateway.host}/${path}/news`);
    await f.in("open");
    if (scheme === "ws") {
      f.subscription.publish("may I?");
      assert.deepEqual(await f.in("closed"), { state: "closed", code: 1008, reason: "publishing is not allowed here" });
    }
    const other = new Follower(t, `${scheme}://${gateway.host}/${path}/news`);
    await other.in("open");
    const connections = `http://${gateway.internal}/api/connections`;
    for (const { id } of (await (await fetch(connections)).json()).connections) await fetch(`${connections}/${id}/close`, { method: "POST" });
    assert.deepEqual(await other.in("closed"), { state: "closed", code: 1008, reason: "closed by an operator" });
  });
}

// keysOf returns the file of a secret, and what makes tokens with it.
async function keysOf(t) {
  const dir = await mkdtemp(join(tmpdir(), "sluice-keys-"));
  t.after(() => rm(dir, { recursive: true }));
  const secret = join(dir, "secret");
  await writeFile(secret, await sluice("token", "secret"), { mode: 0o600 });
  return { secret, make: async (...flags) => (await sluice("token", "make", "--token-hmac-secret-file", secret, ...flags)).trim() };
}

test("WebSocket: close codes that retrying cannot fix, and those that it can", async (t) => {
  const final = [[1002, "protocol error"], [1008, "too many messages"], [1008, "closed by the server's API"], [3005, "connection expired"]];
  const passing = [[1000, ""], [1001, "server is shutting down"], [1007, ""], [1008, "no response to ping"], [1009, ""], [1011, ""], [1012, ""], [1013, "too slow"], [4000, ""]];
  let close;
  const host = await serverOf(t, { socket: (ws) => ws.close(...close) });
  for (const [list, state] of [[final, "closed"], [passing, "waiting"]]) {
    for (close of list) {
      const f = new Follower(t, `ws://${host}/ws/news`);
      await f.until(() => f.states.length > 1);
      assert.deepEqual([f.state.state, f.state.code, f.state.reason], [state, ...close]);
    }
  }
});

test("SSE: statuses that retrying cannot fix, and those that it can", async (t) => {
  let status, headers;
  const host = await serverOf(t, { stream: (response) => response.writeHead(status, headers).end("<p>some words</p>\n") });
  const meets = async (...answer) => {
    [status, headers] = answer;
    const f = new Follower(t, `http://${host}/sse/news`);
    await f.until(() => f.states.length > 1);
    f.subscription.close();
    return [f.states[1], f.waits[0]];
  };
  for (const code of [400, 401, 403, 404, 414, 431]) {
    assert.deepEqual(await meets(code), [{ state: "closed", code, reason: "<p>some words</p>" }, undefined]);
  }
  for (const code of [408, 425, 429, 500, 502, 503, 504]) {
    const [{ state, code: got, reason }, wait] = await meets(code, { "Retry-After": "7" });
    assert.deepEqual([state, got, reason], ["waiting", code, "<p>some words</p>"]);
    assert.ok(wait > 6_600 && wait <= 7_001, `${wait} ms, want 7 s`);
  }
  for (const header of ["Wed, 21 Oct 2026 07:28:00 GMT", "", "-5"]) backsOff([(await meets(503, { "Retry-After": header }))[1]], 500);
  const long = (await meets(503, { "Retry-After": "99999999" }))[1]; // more than a timer can take
  assert.ok(long > 3_599_000 && long <= 3_600_001, `${long} ms, want an hour`);
  const [{ state, code, reason }] = await meets(200, { "Content-Type": "text/html" });
  assert.deepEqual([state, code, reason], ["waiting", 1006, "not an event stream"]);
});

test("SSE: a refused token is replaced once", async (t) => {
  const asked = [];
  const host = await serverOf(t, { stream: (response, url) => {
    asked.push(new URL(url, "http://h").searchParams.get("token"));
    response.writeHead(401).end("The token is invalid.");
  } });
  let n = 0;
  const f = new Follower(t, `http://${host}/sse/news`, { token: () => `token ${++n}` });
  assert.equal((await f.in("waiting")).code, 401);
  f.subscription.retryNow();
  assert.deepEqual(await f.in("closed"), { state: "closed", code: 401, reason: "The token is invalid." });
  assert.deepEqual(asked, ["token 1", "token 2"]);
});

test("what does not speak the protocol is not asked again", async (t) => {
  const host = await serverOf(t, { socket: (ws) => ["null", '"text"', "7", "{}", "hello"].forEach((text) => ws.send(text)) });
  const f = new Follower(t, `ws://${host}/ws/news`);
  assert.deepEqual(await f.in("closed"), { state: "closed", reason: "what answers at this address is not sluice" });
});

test("an attempt that nobody answers is given up", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => mock.timers.reset());
  let asked;
  const requested = new Promise((resolve) => { asked = resolve; });
  const host = await serverOf(t, { stream: () => asked() });
  const f = new Follower(t, `http://${host}/sse/news`);
  await requested;
  mock.timers.tick(14_999);
  assert.equal(f.state.state, "connecting");
  mock.timers.tick(1);
  assert.deepEqual([f.state.state, f.state.code, f.state.reason], ["waiting", 1006, "no answer in time"]);
});
