import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { Client, Heard, Raw, both, codeOf, encodings, ordered } from "./client.mjs";
import { Node, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin("--raw", "publish"); });
after(() => node.end());

const { json, protobuf } = encodings;

// listen opens the event stream of a channel.
async function listen(t, name) {
  const source = new EventSource(node.at(`/sse/${encodeURIComponent(name)}?token=${token("eve")}`, "http"));
  t.after(() => source.close());
  const heard = new Heard({ on: (event, hear) => source.addEventListener(event, (e) => hear({ data: e.data })) }, ["open", "message"]);
  await heard.next("open");
  return heard;
}

const rawURL = (name, query = "") => node.at(`/ws/${encodeURIComponent(name)}?token=${token("ray")}${query}`);

test("what anybody publishes reaches everybody, in one order", async (t) => {
  const name = "open:everybody";
  const [a, b] = [await Client.of(t, json, node.client, "ann"), await Client.of(t, protobuf, node.client, "ben")];
  const subs = [await a.subscribed(name), await b.subscribed(name)];
  const raw = await Raw.open(t, rawURL(name));
  const records = await Raw.open(t, rawURL(name, "&format=json"));
  const stream = await listen(t, name);

  await a.publish(name, { from: "JSON" });
  await b.publish(name, { from: "Protobuf" });
  await subs[0].publish(["JSON", 2]);
  await subs[1].publish(Buffer.from('["Protobuf", 2]'));
  await node.api("publish", { channel: name, data: { from: "the API <&> ü 日本" } });
  raw.socket.send('{"from": "a raw WebSocket"}');

  const want = [
    { from: "JSON" }, { from: "Protobuf" }, ["JSON", 2], ["Protobuf", 2], { from: "the API <&> ü 日本" }, { from: "a raw WebSocket" },
  ];
  for (const sub of subs) assert.deepEqual(await sub.heard.data(6), want);
  assert.deepEqual(await raw.lines(6), want);
  assert.deepEqual((await records.lines(6)).map((r) => JSON.parse(r.data)), want);
  await stream.until(() => stream.all("message").length >= 6, "6 messages");
  assert.deepEqual(stream.all("message").map((m) => JSON.parse(m.data)), want);
});

both(test, "subscribers see who published, and nobody where the server did", async (t, encoding) => {
  const name = `open:info-${encoding.name}`;
  const c = await Client.of(t, encoding, node.client, "ann", { info: { a: 1 } });
  const sub = await c.subscribed(name);
  await sub.publish(encoding.pack("mine"));
  await node.api("publish", { channel: name, data: "the server's", tags: { k: "v" } });
  await sub.heard.data(2);
  const [mine, servers] = sub.heard.all("publication");
  assert.deepEqual([mine.info.user, mine.info.client, encoding.unpack(mine.info.connInfo)], ["ann", c.id, { a: 1 }]);
  assert.equal(servers.info, undefined);
  assert.deepEqual({ ...servers.tags }, { k: "v" });
});

test("bytes that are no text reach JSON clients as base64, others as they are", async (t) => {
  const name = "open:bytes";
  const asBytes = { ...protobuf, unpack: (data) => Buffer.from(data) };
  const [a, b] = [await Client.of(t, json, node.client, "ann"), await Client.of(t, asBytes, node.client, "ben")];
  const [text, sub, raw] = [await a.subscribed(name), await b.subscribed(name), await Raw.open(t, rawURL(name))];
  const bytes = Buffer.from([0, 255, 254, 10, 13, 128]);
  await b.sdk.publish(name, bytes);
  await node.api("publish", { channel: name, b64data: bytes.toString("base64") });
  assert.deepEqual(await text.heard.data(2), [{ base64: bytes.toString("base64") }, { base64: bytes.toString("base64") }]);
  for (let i = 0; i < 2; i++) {
    const m = await raw.heard.next("message");
    assert.deepEqual([m.binary, m.bytes], [true, bytes]);
  }
  assert.deepEqual(await sub.heard.data(2), [bytes, bytes]);
});

test("text that is no JSON reaches JSON clients as a string", async (t) => {
  const name = "open:text";
  const [a, b] = [await Client.of(t, json, node.client, "ann"), await Client.of(t, protobuf, node.client, "ben")];
  const sub = await a.subscribed(name);
  const raw = await Raw.open(t, rawURL(name));
  for (const text of ['{"half": ', "two\nlines", "</script>", "nul\u0000"]) raw.socket.send(text);
  await raw.heard.until(() => raw.heard.all("message").length === 4, "its own");
  await b.sdk.publish(name, Buffer.from("plain text"));
  assert.deepEqual(await sub.heard.data(5), ['{"half": ', "two\nlines", "</script>", "nul\u0000", "plain text"]);
});

both(test, "who may not publish is told 103", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const nobody = await Client.of(t, encoding, node.client, "");
  assert.equal(await codeOf(c.publish("plain", 1)), 103);
  assert.equal(await codeOf(c.publish("closed:a", 1)), 103);
  assert.equal(await codeOf(c.publish("nowhere:a", 1)), 102);
  assert.equal(await codeOf(nobody.publish("stream:a", 1)), 103);
  await nobody.publish("open:a", 1);
});

both(test, "a right of subscribers is not one of others", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const name = `room:publish-${encoding.name}`;
  assert.equal(await codeOf(c.publish(name, 1)), 103);
  const sub = await c.subscribed(name);
  await c.publish(name, 2);
  assert.deepEqual(await sub.heard.data(1), [2]);
  sub.unsubscribe();
  await c.subscribed("open:later");
  assert.equal(await codeOf(c.publish(name, 3)), 103);
});

test("a raw WebSocket has the rights of its token", async (t) => {
  const status = (path) => new Promise((resolve) => {
    Raw.open(t, node.at(path)).then((r) => resolve(r.socket.protocol), (error) => resolve(Number(/\d{3}/.exec(error.message)[0])));
  });
  const made = (user, claims) => `token=${token(user, claims)}`;
  assert.equal(await status("/ws/plain"), 403);
  assert.equal(await status(`/ws/plain?${made("ann")}`), "");
  assert.equal(await status(`/ws/plain?${made("ann", { ttl: -5 })}`), 401);
  assert.equal(await status(`/ws/plain?${made("ann", { key: "2".repeat(64) })}`), 401);
  assert.equal(await status("/ws/nowhere:a"), 404);
  assert.equal(await status(`/ws/$open:a?${made("ann")}`), 403);
  assert.equal(await status(`/ws/$open:a?${made("ann", { channel: "$open:a" })}`), "");
  assert.equal(await status(`/ws/$open:a?${made("ann", { channel: "$open:b" })}`), 403);
  assert.equal(await status(`/ws/$open:a?${made("ann", { channels: ["$open:a"] })}`), "");
  assert.equal(await status(`/ws/personal:%23ann?${made("ann")}`), "");
  assert.equal(await status(`/ws/personal:%23ben?${made("ann")}`), 403);
});

both(test, "many publications of one client arrive once and in order", async (t, encoding) => {
  const name = `open:many-${encoding.name}`;
  const [c, d] = [await Client.of(t, encoding, node.client, "ann"), await Client.of(t, encoding, node.client, "ben")];
  const sub = await d.subscribed(name);
  const want = Array.from({ length: 1000 }, (_, i) => i);
  const many = ordered ? want.length : 50; // requests at a time: the gateway serves --max-handshakes of them
  for (let i = 0; i < want.length; i += many) await Promise.all(want.slice(i, i + many).map((n) => c.publish(name, n)));
  const got = await sub.heard.data(1000);
  assert.deepEqual(ordered ? got : got.sort((a, b) => a - b), want);
});
