// What takes its time: all at once, because most of it is waiting.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Client, Raw, both, encodings, pick, quiet } from "./client.mjs";
import { Node, token } from "./node.mjs";

const why = (event) => pick(event, "code", "reason");

describe("time", { concurrency: true }, () => {
  both(test, "a connection that gets fresh tokens outlives the first", async (t, encoding) => {
    const node = await Node.started(t);
    let asked = 0;
    const c = await Client.of(t, encoding, node.client, "ann", { ttl: 2 }, { getToken: async () => { asked++; return token("ann", { ttl: asked === 1 ? 2 : 3600 }); } });
    await quiet(15_000); // the first ends after 12 s at most, the second after 14 s
    assert.equal(c.sdk.state, "connected");
    assert.deepEqual([c.heard.all("connected").length, asked], [1, 2]);
    await c.subscribed("open:later");
  });

  both(test, "a connection that gets no fresh token ends with 3005 ten seconds later", async (t, encoding) => {
    const node = await Node.started(t);
    const c = await Client.of(t, encoding, node.client, "ann", { ttl: 2 }, { getToken: () => new Promise(() => {}) });
    await c.heard.next("connecting"); // connect was called
    await quiet(9_000);
    assert.equal(c.sdk.state, "connected");
    assert.deepEqual(why(await c.heard.next("connecting")), { code: 3005, reason: "connection expired" });
  });

  both(test, "a subscription that gets fresh tokens outlives the first", async (t, encoding) => {
    const node = await Node.started(t);
    const c = await Client.of(t, encoding, node.client, "ann");
    let asked = 0;
    const sub = await c.subscribed("$open:a", {
      token: token("ann", { channel: "$open:a", ttl: 2 }),
      getToken: async ({ channel }) => { asked++; return token("ann", { channel }); },
    });
    await quiet(13_000); // the first ends after 12 s at most
    assert.deepEqual([sub.state, sub.heard.all("subscribed").length, asked], ["subscribed", 1, 1]);
    await node.api("publish", { channel: "$open:a", data: 1 });
    assert.deepEqual(await sub.heard.data(1), [1]);
  });

  both(test, "a subscription that gets no fresh token ends with 2501, and is asked for anew", async (t, encoding) => {
    const node = await Node.started(t);
    const c = await Client.of(t, encoding, node.client, "ann");
    let asked = 0;
    const sub = await c.subscribed("$open:a", {
      token: token("ann", { channel: "$open:a", ttl: 2 }),
      getToken: ({ channel }) => (asked++ === 0 ? new Promise(() => {}) : token("ann", { channel })),
    });
    await sub.heard.next("subscribing"); // subscribe was called
    await quiet(9_000);
    assert.deepEqual(why(await sub.heard.next("subscribing")), { code: 2501, reason: "subscription expired" });
    await sub.heard.next("subscribed");
    assert.equal(c.sdk.state, "connected");
  });

  test("who does not connect ends with 3502 after ten seconds", async (t) => {
    const node = await Node.started(t);
    const r = await Raw.open(t, node.client);
    const begun = Date.now();
    await quiet(8_000);
    assert.deepEqual(r.heard.all("close"), []);
    assert.deepEqual(await r.ended(), { code: 3502, reason: "stale" });
    assert.ok(Date.now() - begun < 13_000, "it took ten seconds");
  });

  both(test, "a client that answers pings stays, with other traffic and without", async (t, encoding) => {
    const node = await Node.started(t, "--ping-interval", "1s", "--pong-timeout", "1s");
    const still = await Client.of(t, encoding, node.client, "ann", {}, { maxServerPingDelay: 1500 }); // it ends what is not pinged in time
    const busy = await Client.of(t, encoding, node.client, "ben", {}, { maxServerPingDelay: 1500 });
    const sub = await busy.subscribed("open:busy");
    const writes = await Client.of(t, encoding, node.client, "ben", {}, { maxServerPingDelay: 1500 });
    for (let i = 1; i <= 50; i++) {
      await writes.publish("open:busy", i);
      await node.api("publish", { channel: "open:busy", data: i });
      await quiet(100);
    }
    await sub.heard.data(100);
    for (const c of [still, busy, writes]) assert.deepEqual([c.sdk.state, c.heard.all("connected").length], ["connected", 1]);
  });

  test("a client that does not answer pings ends with 3012, whatever it is sent", async (t) => {
    const node = await Node.started(t, "--ping-interval", "1s", "--pong-timeout", "1s");
    const r = await Raw.open(t, node.client);
    r.send({ id: 1, connect: {} }, { id: 2, subscribe: { channel: "open:a" } });
    await r.lines(2);
    let ended = false;
    const end = r.ended().finally(() => { ended = true; });
    while (!ended) { // awaited, so that nothing is asked of a node that has gone
      await node.api("publish", { channel: "open:a", data: 1 });
      await quiet(100);
    }
    assert.deepEqual(await end, { code: 3012, reason: "no pong" });
    assert.ok(r.heard.all("message").some((m) => String(m.bytes).split("\n").includes("{}")), "it was pinged");
  });

  both(test, "a connection cut without a word is noticed by the missing pings", async (t, encoding) => {
    const node = await Node.started(t, "--ping-interval", "1s");
    const c = await Client.of(t, encoding, node.client, "ann", {}, { maxServerPingDelay: 500, maxReconnectDelay: 100 });
    await c.heard.next("connecting"); // connect was called
    node.process.kill("SIGSTOP");
    try {
      assert.deepEqual(why(await c.heard.next("connecting")), { code: 2, reason: "no ping" });
    } finally {
      node.process.kill("SIGCONT"); // or it would not end
    }
    await c.heard.next("connected");
  });
});
