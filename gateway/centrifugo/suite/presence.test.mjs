import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, both, codeOf, encodings, pick } from "./client.mjs";
import { Node, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin(); });
after(() => node.end());

both(test, "presence has every subscriber with its infos, and counts users once", async (t, encoding) => {
  const name = `room:presence-${encoding.name}`;
  const one = await Client.of(t, encoding, node.client, "ann", { info: { phone: false } });
  const two = await Client.of(t, encodings.json, node.client, "ann", { info: { phone: true } });
  const three = await Client.of(t, encodings.protobuf, node.client, "ben");
  const sub = await one.subscribed(name, { token: token("ann", { channel: name, info: { seat: 7 } }) });
  await two.subscribed(name);
  const last = await three.subscribed(name);

  const { clients } = await sub.presence();
  assert.deepEqual(Object.keys(clients).sort(), [one.id, two.id, three.id].sort());
  const own = clients[one.id];
  assert.deepEqual([own.user, own.client, encoding.unpack(own.connInfo), encoding.unpack(own.chanInfo)], ["ann", one.id, { phone: false }, { seat: 7 }]);
  assert.equal(clients[three.id].user, "ben");
  assert.deepEqual({ ...await sub.presenceStats() }, { numClients: 3, numUsers: 2 });
  assert.deepEqual({ ...await one.sdk.presenceStats(name) }, { numClients: 3, numUsers: 2 });

  const seen = (await node.api("presence", { channel: name })).presence;
  assert.deepEqual(seen[one.id], { user: "ann", client: one.id, conn_info: { phone: false }, chan_info: { seat: 7 } });
  assert.deepEqual(await node.api("presence_stats", { channel: name }), { num_clients: 3, num_users: 2 });

  last.unsubscribe();
  two.sdk.disconnect();
  for (let left = 3; left > 1;) left = (await sub.presenceStats()).numClients; // until both have been read
  assert.deepEqual(Object.keys((await sub.presence()).clients), [one.id]);
});

both(test, "presence is for whom the namespace allows it, and where there is one", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  for (const ask of ["presence", "presenceStats"]) {
    assert.equal(await codeOf(c.sdk[ask]("room:not-mine")), 103);
    assert.equal(await codeOf(c.sdk[ask]("open:a")), 108);
    assert.equal(await codeOf(c.sdk[ask]("nowhere:a")), 102);
  }
});

for (const [name, namespace, options] of [["asks for it", "room", { joinLeave: true }], ["is told anyway", "pushed", {}]]) {
  both(test, `a subscriber that ${name} hears who comes and goes`, async (t, encoding) => {
    const channel = `${namespace}:joins-${encoding.name}`;
    const c = await Client.of(t, encoding, node.client, "ann");
    const sub = await c.subscribed(channel, options);
    const other = await Client.of(t, encodings.json, node.client, "ben", { info: { b: 1 } });
    const theirs = await other.subscribed(channel, { token: token("ben", { channel, info: [2] }) });
    await sub.heard.until(() => sub.heard.all("join").some((j) => j.info.user === "ben"), "ben's join");
    const { info } = sub.heard.all("join").at(-1);
    assert.deepEqual([info.client, encoding.unpack(info.connInfo), encoding.unpack(info.chanInfo)], [other.id, { b: 1 }, [2]]);
    theirs.unsubscribe();
    assert.deepEqual(pick((await sub.heard.next("leave")).info, "user", "client"), { user: "ben", client: other.id });
    theirs.subscribe();
    await sub.heard.until(() => sub.heard.all("join").filter((j) => j.info.user === "ben").length === 2, "ben's second join");
    other.sdk.disconnect();
    assert.equal((await sub.heard.next("leave")).info.client, other.id);
  });
}

both(test, "a subscriber that does not ask hears nobody come", async (t, encoding) => {
  const channel = `room:silent-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, "ann");
  const sub = await c.subscribed(channel);
  await (await Client.of(t, encoding, node.client, "ben")).subscribed(channel);
  await node.api("publish", { channel, data: "after the join" });
  await sub.heard.data(1);
  assert.deepEqual(sub.heard.all("join"), []);
});

both(test, "history is read by limit, from a position, and backwards", async (t, encoding) => {
  const channel = `stream:history-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, "ann");
  for (let i = 1; i <= 10; i++) await node.api("publish", { channel, data: i, tags: { n: `${i}` } });
  const sub = await c.subscribed(channel);
  const read = async (options) => (await sub.history(options)).publications.map((p) => [p.offset, encoding.unpack(p.data)]);
  const pairs = (...ns) => ns.map((n) => [n, n]);

  const { publications, epoch, offset } = await sub.history({ limit: 0 });
  assert.deepEqual([publications, offset], [[], 10]);
  assert.equal(epoch, sub.first.streamPosition.epoch);
  assert.deepEqual(await read({ limit: 3 }), pairs(1, 2, 3));
  assert.deepEqual(await read({ limit: -1 }), pairs(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  assert.deepEqual(await read({ limit: 3, reverse: true }), pairs(10, 9, 8));
  assert.deepEqual(await read({ limit: 2, since: { offset: 4, epoch } }), pairs(5, 6));
  assert.deepEqual(await read({ limit: 2, since: { offset: 4, epoch }, reverse: true }), pairs(3, 2));
  assert.deepEqual(await read({ limit: -1, since: { offset: 10, epoch } }), []);
  assert.deepEqual({ ...(await c.sdk.history(channel, { limit: 1 })).publications[0].tags }, { n: "1" });
  assert.deepEqual(await read({ limit: 2, since: { offset: 0, epoch: "" } }), pairs(1, 2)); // any epoch
  assert.equal(await codeOf(sub.history({ limit: 1, since: { offset: 4, epoch: "another" } })), 112);

  const listed = await node.api("history", { channel, limit: 2, reverse: true });
  assert.deepEqual(listed.publications.map((p) => [p.offset, p.data]), pairs(10, 9));
  assert.deepEqual([listed.epoch, listed.offset], [epoch, 10]);
  await node.api("history_remove", { channel });
  assert.deepEqual(await read({ limit: -1 }), []);
  assert.deepEqual([(await sub.history()).offset, (await sub.history()).epoch], [10, epoch]);
});

both(test, "history keeps the newest, and is for whom the namespace allows it", async (t, encoding) => {
  const channel = `stream:bounded-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, "ann");
  for (let i = 1; i <= 25; i++) await node.api("publish", { channel, data: i });
  const { publications } = await c.sdk.history(channel, { limit: -1 });
  assert.deepEqual(publications.map((p) => p.offset), Array.from({ length: 20 }, (_, i) => i + 6));
  assert.equal(await codeOf(c.sdk.history("open:a", { limit: 1 })), 108);
  assert.equal(await codeOf(c.sdk.history("long:a", { limit: 1 })), 103);
  const nobody = await Client.of(t, encoding, node.client, "");
  assert.equal(await codeOf(nobody.sdk.history(channel, { limit: 1 })), 103);
});

both(test, "a history of bytes, text and JSON comes back as it went in", async (t, encoding) => {
  const channel = `stream:kinds-${encoding.name}`;
  const writer = await Client.of(t, encodings.protobuf, node.client, "ann");
  const reader = await Client.of(t, encoding, node.client, "ben");
  const bytes = Buffer.from([255, 0, 254]);
  for (const data of [Buffer.from('{"a":[1]}'), bytes, Buffer.from("words")]) await writer.sdk.publish(channel, data);
  const { publications } = await reader.sdk.history(channel, { limit: -1 });
  const got = publications.map((p) => p.data);
  if (encoding === encodings.json) assert.deepEqual(got, [{ a: [1] }, { base64: bytes.toString("base64") }, "words"]);
  else assert.deepEqual(got.map((d) => Buffer.from(d)), [Buffer.from('{"a":[1]}'), bytes, Buffer.from("words")]);
  assert.deepEqual(publications.map((p) => p.info.user), ["ann", "ann", "ann"]);
});
