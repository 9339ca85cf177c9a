import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, Heard, both, ordered, pick, quiet } from "./client.mjs";
import { Node, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin(); });
after(() => node.end());

const ann = (t, encoding, options) => Client.of(t, encoding, node.client, "ann", {}, options);
const why = (event) => pick(event, "code", "reason");
const denied = { code: 103, reason: "permission denied" };
const invalid = { code: 3500, reason: "invalid token" };

both(test, "a channel is for whom its namespace allows it", async (t, encoding) => {
  const user = await ann(t, encoding);
  const nobody = await Client.of(t, encoding, node.client, "");
  await user.subscribed("plain");
  await user.subscribed("open:a");
  await nobody.subscribed("open:a");
  assert.deepEqual(why(await user.refused("closed:a")), denied);
  assert.deepEqual(why(await nobody.refused("plain")), denied);
  assert.deepEqual(why(await nobody.refused("room:a")), denied);
});

both(test, "a namespace that is not there is answered with 102", async (t, encoding) => {
  const c = await ann(t, encoding);
  assert.deepEqual(why(await c.refused("nowhere:a")), { code: 102, reason: "unknown channel" });
});

both(test, "a name that is none is answered with 107", async (t, encoding) => {
  const c = await ann(t, encoding);
  for (const name of ["open:with space", "open:" + "x".repeat(256)]) assert.equal((await c.refused(name)).code, 107);
});

// Types 1 to 4 of a subscribe command. The library would take the reply of a stream for one of theirs.
for (const kind of ["newMapSubscription", "newMapClientsSubscription", "newMapUsersSubscription", "newSharedPollSubscription"]) {
  both(test, `${kind} is answered with 108, for good, and the connection goes on`, async (t, encoding) => {
    const c = await ann(t, encoding);
    const sub = c.sdk[kind]("open:typed", { getSignature: async () => "" });
    const heard = new Heard(sub, ["subscribed", "unsubscribed", "error"]);
    sub.subscribe();
    assert.deepEqual(why(await heard.next("unsubscribed")), { code: 108, reason: "not available" });
    assert.deepEqual(heard.all("subscribed"), []);
    c.sdk.removeSubscription(sub);
    await c.subscribed("open:typed");
    assert.deepEqual(c.heard.all("disconnected"), []);
  });
}

both(test, "a private channel wants a token, and the token opens it", async (t, encoding) => {
  const c = await ann(t, encoding);
  assert.deepEqual(why(await c.refused("$open:a")), denied);
  const sub = await c.subscribed("$open:a", { token: token("ann", { channel: "$open:a" }) });
  await node.api("publish", { channel: "$open:a", data: "secret" });
  assert.deepEqual(await sub.heard.data(1), ["secret"]);
});

both(test, "a token opens also a channel that its namespace allows nobody", async (t, encoding) => {
  const c = await ann(t, encoding);
  await c.subscribed("closed:by-token", { getToken: async () => token("ann", { channel: "closed:by-token" }) });
  await c.subscribed("closed:this-client", { token: token("ann", { channel: "closed:this-client", client: c.id }) });
});

for (const [what, made] of [
  ["another channel", () => token("ann", { channel: "$open:b" })],
  ["another user", () => token("ben", { channel: "$open:a" })],
  ["another client", () => token("ann", { channel: "$open:a", client: "0b8bd7dc-5a26-4c26-a1b5-4a0ed1a6e8c8" })],
]) {
  both(test, `a subscription token for ${what} ends the connection with 3500`, async (t, encoding) => {
    const c = await ann(t, encoding);
    const sub = c.channel("$open:a", { token: made() });
    assert.deepEqual(why(await c.heard.next("disconnected")), invalid);
    assert.deepEqual(sub.heard.all("subscribed"), []);
  });
}

for (const [what, made] of [
  ["that is none", () => "nonsense"],
  ["of a connection", () => token("ann")],
  ["that another secret signed", () => token("ann", { channel: "$open:a", key: "1".repeat(64) })],
]) {
  both(test, `a subscription token ${what} costs the subscription, with 103, and the connection stays`, async (t, encoding) => {
    const c = await ann(t, encoding);
    const other = await c.subscribed("open:other");
    assert.deepEqual(why(await c.refused("$open:a", { token: made() })), denied);
    await c.subscribed("$open:a", { token: token("ann", { channel: "$open:a" }) });
    await c.publish(other.channel, "still here");
    await other.heard.until(() => other.heard.all("publication").some((p) => p.data === "still here"), "its other channel");
    assert.deepEqual(c.heard.all("disconnected"), []);
  });
}

both(test, "a fresh subscription token that another secret signed ends the subscription with 103", async (t, encoding) => {
  const c = await ann(t, encoding);
  const sub = await c.subscribed("$open:a", {
    token: token("ann", { channel: "$open:a", ttl: 2 }), getToken: async () => token("ann", { channel: "$open:a", key: "1".repeat(64) }),
  });
  assert.deepEqual(why(await sub.heard.next("unsubscribed")), denied);
  await c.subscribed("open:after");
  assert.deepEqual(c.heard.all("disconnected"), []);
});

both(test, "an expired subscription token is answered with 109, and the library gets a fresh one", async (t, encoding) => {
  const c = await ann(t, encoding);
  let asked = 0;
  const sub = await c.subscribed("$open:a", {
    token: token("ann", { channel: "$open:a", ttl: -5 }),
    getToken: async ({ channel }) => { asked++; return token("ann", { channel }); },
  });
  assert.equal(asked, 1);
  assert.equal(sub.heard.all("error")[0].error.code, 109);
});

both(test, "a fresh subscription token of somebody else ends the connection with 3500", async (t, encoding) => {
  const c = await ann(t, encoding);
  await c.subscribed("$open:a", {
    token: token("ann", { channel: "$open:a", ttl: 2 }), getToken: async () => token("mallory", { channel: "$open:a" }),
  });
  assert.deepEqual(why(await c.heard.next("disconnected")), invalid);
});

both(test, "a channel that names users is for them alone", async (t, encoding) => {
  const c = await ann(t, encoding);
  await c.subscribed("personal:#ann");
  await c.subscribed("personal:dialog#ben,ann");
  for (const name of ["personal:#ben", "personal:#", "personal:ann", "personal:#ann,#ben"]) assert.deepEqual(why(await c.refused(name)), denied, name);
  const nobody = await Client.of(t, encoding, node.client, "");
  assert.deepEqual(why(await nobody.refused("personal:#")), denied);
});

both(test, "who has unsubscribed hears nothing until it subscribes again", async (t, encoding) => {
  const c = await ann(t, encoding);
  const name = `open:leave-${encoding.name}`;
  const sub = await c.subscribed(name);
  await node.api("publish", { channel: name, data: 1 });
  assert.deepEqual(await sub.heard.data(1), [1]);
  sub.unsubscribe();
  assert.deepEqual(why(await sub.heard.next("unsubscribed")), { code: 0, reason: "unsubscribe called" });
  await c.subscribed("open:later"); // what was sent before has been read
  const { subscribers } = await node.api("publish", { channel: name, data: 2 });
  assert.equal(subscribers, 0);
  sub.subscribe();
  await sub.heard.next("subscribed");
  await node.api("publish", { channel: name, data: 3 });
  assert.deepEqual(await sub.heard.data(2), [1, 3]);
});

both(test, "a connection has 128 subscriptions and is told 106 for one more", async (t, encoding) => {
  if (!ordered) return t.skip("which one is too many depends on the order in which requests arrive");
  const c = await ann(t, encoding);
  c.sdk.startBatching();
  const subs = Array.from({ length: 129 }, (_, i) => c.channel(`open:${encoding.name}-${i}`));
  c.sdk.stopBatching();
  for (const sub of subs.slice(0, 128)) await sub.heard.next("subscribed");
  assert.equal((await subs[128].heard.next("unsubscribed")).code, 106);
  const { responses } = await node.api("broadcast", { channels: subs.map((s) => s.channel), data: "all" });
  assert.deepEqual(responses.map((r) => r.result.subscribers), [...Array(128).fill(1), 0]);
  for (const sub of subs.slice(0, 128)) assert.deepEqual(await sub.heard.data(1), ["all"]);
  await quiet(50);
  assert.ok(subs.every((s, i) => s.heard.all("publication").length === (i < 128 ? 1 : 0)));
});
