import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, both, encodings, pick, quiet } from "./client.mjs";
import { Node, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin(); });
after(() => node.end());

const why = (event) => pick(event, "code", "reason");

both(test, "publish tells the position and how many heard it", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const [a, b] = [await c.subscribed(`stream:api-${encoding.name}`), await c.subscribed(`open:api-${encoding.name}`)];
  const { epoch } = a.first.streamPosition;
  assert.deepEqual(await node.api("publish", { channel: a.channel, data: { n: 1 } }), { offset: 1, epoch, subscribers: 1 });
  assert.equal((await node.api("publish", { channel: b.channel, data: 1 })).subscribers, 1);
  assert.deepEqual(await a.heard.data(1), [{ n: 1 }]);
  assert.deepEqual(await b.heard.data(1), [1]);
  assert.equal(a.heard.all("publication")[0].offset, 1);
});

both(test, "a publication with skip_history is heard and not kept", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const sub = await c.subscribed(`stream:skip-${encoding.name}`);
  await node.api("publish", { channel: sub.channel, data: 1 });
  await node.api("publish", { channel: sub.channel, data: 2, skip_history: true });
  await node.api("publish", { channel: sub.channel, data: 3 });
  assert.deepEqual(await sub.heard.data(3), [1, 2, 3]);
  assert.deepEqual((await sub.history({ limit: -1 })).publications.map((p) => encoding.unpack(p.data)), [1, 3]);
});

both(test, "broadcast reaches each channel and tells of each", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const [a, b] = [await c.subscribed(`stream:broadcast-${encoding.name}`), await c.subscribed(`open:broadcast-${encoding.name}`)];
  const { responses } = await node.api("broadcast", { channels: [a.channel, "nowhere:a", b.channel], data: ["all"] });
  assert.deepEqual(responses.map((r) => r.error?.code ?? r.result.subscribers), [1, 102, 1]);
  assert.deepEqual([await a.heard.data(1), await b.heard.data(1)], [[["all"]], [["all"]]]);
});

both(test, "the same idempotency key publishes once", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const sub = await c.subscribed(`stream:once-${encoding.name}`);
  const key = `key-${encoding.name}`;
  const first = await node.api("publish", { channel: sub.channel, data: 1, idempotency_key: key });
  assert.deepEqual(await node.api("publish", { channel: sub.channel, data: "again", idempotency_key: key }), first);
  await Promise.all([1, 2, 3].map(() => node.api("broadcast", { channels: [sub.channel], data: 2, idempotency_key: `${key}-b` })));
  await node.api("publish", { channel: sub.channel, data: 3 });
  assert.deepEqual(await sub.heard.data(3), [1, 2, 3]);
});

both(test, "subscribe subscribes every connection of a user, and unsubscribe ends that with 2000", async (t, encoding) => {
  const name = `stream:by-api-${encoding.name}`;
  const user = `user-${encoding.name}`;
  const all = [await Client.of(t, encoding, node.client, user), await Client.of(t, encodings.json, node.client, user)];
  const other = await Client.of(t, encoding, node.client, "other");
  await node.api("publish", { channel: name, data: 1 });
  await node.api("subscribe", { user, channel: name, data: { hello: true } });
  for (const c of all) {
    const event = await c.heard.next("subscribed");
    assert.equal(event.channel, name);
    assert.deepEqual(c.encoding.unpack(event.data), { hello: true });
    assert.deepEqual(pick(event, "recoverable", "positioned", "recovered"), { recoverable: true, positioned: true, recovered: false });
    assert.equal(event.streamPosition.offset, 1);
  }
  await node.api("subscribe", { user, channel: name }); // it is, already
  assert.equal((await node.api("publish", { channel: name, data: 2 })).subscribers, 2);
  for (const c of all) assert.deepEqual(await c.heard.data(1), [2]);
  await node.api("unsubscribe", { user, channel: name });
  for (const c of all) assert.equal((await c.heard.next("unsubscribed")).channel, name);
  assert.equal((await node.api("publish", { channel: name, data: 3 })).subscribers, 0);
  assert.deepEqual(other.heard.all("subscribed"), []);
});

both(test, "subscribe for one client leaves the user's others alone", async (t, encoding) => {
  const user = `one-of-${encoding.name}`;
  const [a, b] = [await Client.of(t, encoding, node.client, user), await Client.of(t, encoding, node.client, user)];
  await node.api("subscribe", { user, client: b.id, channel: "open:one" });
  await b.heard.next("subscribed");
  assert.equal((await node.api("publish", { channel: "open:one", data: 1 })).subscribers, 1);
  await b.heard.data(1);
  assert.deepEqual(a.heard.all("subscribed"), []);
});

both(test, "subscribe with recover_since gives what came after that position", async (t, encoding) => {
  const name = `stream:recover-since-${encoding.name}`;
  const user = `since-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, user);
  let position;
  for (let i = 1; i <= 5; i++) {
    const { offset, epoch } = await node.api("publish", { channel: name, data: i });
    if (i === 2) position = { offset, epoch };
  }
  await node.api("subscribe", { user, channel: name, recover_since: position });
  await c.heard.next("subscribed");
  await node.api("publish", { channel: name, data: 6 });
  assert.deepEqual(await c.heard.data(4), [3, 4, 5, 6]);
});

both(test, "unsubscribe ends a client's own subscription with 2000 for good", async (t, encoding) => {
  const user = `own-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, user);
  const [a, b] = [await c.subscribed(`open:own-a-${encoding.name}`), await c.subscribed(`open:own-b-${encoding.name}`)];
  await node.api("unsubscribe", { user, channel: a.channel });
  assert.deepEqual(why(await a.heard.next("unsubscribed")), { code: 2000, reason: "server unsubscribe" });
  assert.equal((await node.api("publish", { channel: b.channel, data: 1 })).subscribers, 1);
  assert.deepEqual(await b.heard.data(1), [1]);
  assert.equal(a.state, "unsubscribed");
  a.subscribe();
  await a.heard.next("subscribed");
});

both(test, "disconnect ends a user's connections with 3503 for good", async (t, encoding) => {
  const user = `gone-${encoding.name}`;
  const all = [await Client.of(t, encoding, node.client, user), await Client.of(t, encoding, node.client, user)];
  const spared = await Client.of(t, encoding, node.client, user);
  const other = await Client.of(t, encoding, node.client, "other");
  await node.api("disconnect", { user, whitelist: [spared.id] });
  for (const c of all) assert.deepEqual(why(await c.heard.next("disconnected")), { code: 3503, reason: "force disconnect" });
  await quiet(200);
  for (const c of all) assert.equal(c.heard.all("connecting").length, 1, "it does not come back");
  for (const c of [spared, other]) assert.equal(c.sdk.state, "connected");
});

for (const [code, comes] of [[4000, true], [4499, true], [4500, false], [3999, false], [3011, true]]) {
  both(test, `a disconnect with ${code} ${comes ? "lets the library come back" : "is for good"}`, async (t, encoding) => {
    const user = `code-${code}-${encoding.name}`;
    const c = await Client.of(t, encoding, node.client, user);
    await c.heard.next("connecting"); // connect was called
    await node.api("disconnect", { user, disconnect: { code, reason: "because" } });
    assert.deepEqual(why(await c.heard.next(comes ? "connecting" : "disconnected")), { code, reason: "because" });
    if (comes) assert.notEqual((await c.heard.next("connected")).client, c.id);
  });
}

both(test, "disconnect of the user without a name ends those who said none", async (t, encoding) => {
  const nobody = await Client.of(t, encoding, node.client, "");
  const ann = await Client.of(t, encoding, node.client, "ann");
  await node.api("disconnect", { user: "", client: nobody.id });
  assert.equal((await nobody.heard.next("disconnected")).code, 3503);
  assert.equal(ann.sdk.state, "connected");
});

both(test, "refresh makes a connection expire, and expired ends it at once", async (t, encoding) => {
  const user = `refresh-${encoding.name}`;
  let asked = 0;
  const c = await Client.of(t, encoding, node.client, user, {}, { getToken: async () => { asked++; return token(user); } });
  await c.heard.next("connecting"); // connect was called
  await node.api("refresh", { user, expired: true });
  assert.deepEqual(why(await c.heard.next("connecting")), { code: 3005, reason: "connection expired" });
  await c.heard.next("connected");
  await node.api("refresh", { user, expire_at: Math.floor(Date.now() / 1000) + 3600, info: { fresh: true } });
  const room = await c.subscribed(`room:refreshed-${encoding.name}`);
  const { clients: { [c.heard.all("connected").at(-1).client]: who } } = await room.presence();
  assert.deepEqual(encoding.unpack(who.connInfo), { fresh: true });
  assert.ok(asked <= 1);
});

both(test, "channels and info count what is there", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const names = [1, 2].map((n) => `open:counted-${encoding.name}-${n}`);
  for (const name of names) await c.subscribed(name);
  const { channels } = await node.api("channels", { pattern: `open:counted-${encoding.name}-*` });
  assert.deepEqual(channels, Object.fromEntries(names.map((n) => [n, { num_clients: 1 }])));
  const { nodes: [one] } = await node.api("info", {});
  assert.ok(one.num_clients >= 1 && one.num_users >= 1 && one.num_subs >= 2 && one.num_channels >= 2, JSON.stringify(one));
});
