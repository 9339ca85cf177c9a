import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { Client, Raw, both, codeOf, pick, quiet } from "./client.mjs";
import { Node, secretFile, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin(); });
after(() => node.end());

both(test, "who has no token is connected as nobody", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "");
  assert.match(c.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await c.subscribed("open:nobody");
  assert.deepEqual(pick(await c.refused("stream"), "code", "reason"), { code: 103, reason: "permission denied" });
});

both(test, "who has a token is that user, and others see the info in it", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann", { info: { name: "Ann" } });
  const room = await c.subscribed(`room:who-${encoding.name}`);
  const { clients } = await room.presence();
  assert.deepEqual(Object.keys(clients), [c.id]);
  const { user, client, connInfo } = clients[c.id];
  assert.deepEqual({ user, client, info: encoding.unpack(connInfo) }, { user: "ann", client: c.id, info: { name: "Ann" } });
});

both(test, "a token of sluice token make is taken", async (t, encoding) => {
  const made = String(execFileSync(node.process.spawnfile, ["token", "make", "--token-hmac-secret-file", secretFile, "--user", "ben"])).trim();
  const c = await new Client(t, encoding, node.client, { token: made }).connect();
  const room = await c.subscribed(`room:made-${encoding.name}`);
  assert.equal((await room.presence()).clients[c.id].user, "ben");
});

both(test, "an expired token is answered with 109, and the library gets a fresh one", async (t, encoding) => {
  let asked = 0;
  const c = new Client(t, encoding, node.client, {
    token: token("ann", { ttl: -5 }),
    getToken: async () => { asked++; return token("ann"); },
  });
  await c.connect();
  assert.equal(asked, 1);
  assert.equal(c.heard.all("error")[0]?.error.code, 109);
  assert.deepEqual(c.heard.all("disconnected"), []);
});

both(test, "an expired token without a way to a fresh one ends as unauthorized", async (t, encoding) => {
  const c = new Client(t, encoding, node.client, { token: token("ann", { ttl: -5 }) });
  c.sdk.connect();
  assert.equal((await c.heard.next("disconnected")).code, 1);
});

for (const [what, forged] of [
  ["of another secret", () => token("ann", { key: "0".repeat(64) })],
  ["of no algorithm", () => `${Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url")}.${token("ann").split(".")[1]}.`],
  ["that is none", () => "no token"],
  ["for a subscription", () => token("ann", { channel: "open:a" })],
]) {
  both(test, `a token ${what} ends with 3500 for good`, async (t, encoding) => {
    const c = new Client(t, encoding, node.client, { token: forged(), getToken: async () => assert.fail("it is not expired") });
    c.sdk.connect();
    assert.deepEqual(pick(await c.heard.next("disconnected"), "code", "reason"), { code: 3500, reason: "invalid token" });
    await quiet(300);
    assert.equal(c.sdk.state, "disconnected");
    assert.equal(c.heard.all("connecting").length, 1, "it does not come back");
  });
}

both(test, "a fresh token of somebody else ends the connection with 3500", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann", { ttl: 2 }, { getToken: async () => token("mallory") });
  assert.equal((await c.heard.next("disconnected")).code, 3500);
});

both(test, "a procedure call is answered with 108, and a message sent ends with 3508, as there is no hook for them", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  assert.equal(await codeOf(c.sdk.rpc("method", encoding.pack({ a: 1 }))), 108);
  assert.deepEqual(c.heard.all("error"), []);
  await c.sdk.send(encoding.pack({ a: 1 }));
  assert.deepEqual(pick(await c.heard.next("disconnected"), "code", "reason"), { code: 3508, reason: "not available" });
});

both(test, "commands in one batch are all answered", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const sub = await c.subscribed(`open:batch-${encoding.name}`);
  c.sdk.startBatching();
  const answers = [1, 2, 3].map((n) => c.publish(sub.channel, n));
  answers.push(codeOf(c.sdk.rpc("method", encoding.pack({}))));
  c.sdk.stopBatching();
  assert.deepEqual((await Promise.all(answers)).map((a) => a === 108 || a instanceof Object), [true, true, true, true]);
  assert.deepEqual(await sub.heard.data(3), [1, 2, 3]);
});

test("commands of one frame are answered in their order", async (t) => {
  const r = await Raw.open(t, node.client);
  r.send({ id: 1, connect: {} }, { id: 2, subscribe: { channel: "open:frame" } }, { id: 3, publish: { channel: "open:frame", data: 1 } },
    { id: 4, subscribe: { channel: "open:frame" } }, { id: 5, ping: {} }, { id: 6, unsubscribe: { channel: "open:other" } });
  const lines = (await r.lines(7)).map((l) => l.push ? `push ${l.push.pub.data}` : `${l.id} ${l.error?.code ?? Object.keys(l)[1]}`);
  assert.deepEqual(lines.filter((l) => !l.startsWith("push")), ["1 connect", "2 subscribe", "3 publish", "4 105", "5 ping", "6 unsubscribe"]);
  assert.ok(lines.includes("push 1"));
});

for (const [what, ...commands] of [
  ["is not connect", { id: 1, subscribe: { channel: "open:a" } }],
  ["has no id", { connect: {} }],
  ["is a second connect", { id: 1, connect: {} }, { id: 2, connect: {} }],
]) {
  test(`a command that ${what} where it must ends with 3501`, async (t) => {
    const r = await Raw.open(t, node.client);
    r.send(...commands);
    assert.deepEqual(await r.ended(), { code: 3501, reason: "bad request" });
  });
}

test("the subprotocols of both encodings are agreed on", async (t) => {
  for (const protocol of ["centrifuge-json", "centrifuge-protobuf"]) {
    const r = await Raw.open(t, node.client, protocol);
    assert.equal(r.socket.protocol, protocol);
  }
});
