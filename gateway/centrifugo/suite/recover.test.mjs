import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, both, encodings, pick } from "./client.mjs";
import { Node, Wire, clientThrough, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin(); });
after(() => node.end());

// behind gives a client behind a wire.
async function behind(t, encoding, claims, options) {
  const wire = await Wire.to(node.port);
  t.after(() => wire.close());
  const c = await Client.of(t, encoding, clientThrough(wire), "ann", claims, options);
  return { wire, c };
}

const says = (event) => pick(event, "wasRecovering", "recovered", "hasRecoveredPublications");
const anew = { wasRecovering: false, recovered: false, hasRecoveredPublications: false };
const complete = { wasRecovering: true, recovered: true, hasRecoveredPublications: true };
const lost = { wasRecovering: true, recovered: false, hasRecoveredPublications: false };
const through = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

// publish publishes the numbers from one to another.
async function publish(channel, from, to) {
  for (const data of through(from, to)) await node.api("publish", { channel, data });
}

// away cuts a wire, does something once the library knows, and mends it.
async function away(wire, c, meanwhile) {
  wire.cut();
  await c.heard.until(() => c.sdk.state === "connecting", "the cut");
  await meanwhile();
  wire.mend();
}

both(test, "what was published while the connection was cut arrives once and in order", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:cut-${encoding.name}`;
  await publish(name, 1, 3);
  const stays = await (await Client.of(t, encoding, node.client, "ben")).subscribed(name); // its channel goes on meanwhile
  const sub = await c.subscribed(name);
  assert.deepEqual(says(sub.first), anew);
  assert.deepEqual(pick(sub.first, "recoverable", "positioned"), { recoverable: true, positioned: true });
  assert.equal(sub.first.streamPosition.offset, 3);
  await publish(name, 4, 5);
  await sub.heard.data(2);
  await away(wire, c, () => publish(name, 6, 15));
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  await publish(name, 16, 17);
  assert.deepEqual(await sub.heard.data(14), through(4, 17));
  assert.deepEqual(sub.heard.all("publication").map((p) => p.offset), through(4, 17));
  assert.deepEqual(await stays.heard.data(14), through(4, 17));
});

both(test, "a cut in which nothing was published is recovered", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:nothing-${encoding.name}`;
  await publish(name, 1, 1);
  const sub = await c.subscribed(name);
  await away(wire, c, () => {});
  assert.deepEqual(says(await sub.heard.next("subscribed")), { ...complete, hasRecoveredPublications: false });
});

both(test, "a first subscription to a channel where nothing was is recovered too", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:empty-${encoding.name}`;
  const sub = await c.subscribed(name);
  assert.equal(sub.first.streamPosition.offset, 0);
  await away(wire, c, () => publish(name, 1, 2));
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  assert.deepEqual(await sub.heard.data(2), [1, 2]);
});

both(test, "cuts in a stream of publications lose and double nothing", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:often-${encoding.name}`;
  const sub = await c.subscribed(name);
  let n = 0;
  for (let round = 0; round < 5; round++) {
    const sent = publish(name, n + 1, n += 10);
    await sub.heard.until(() => sub.heard.all("publication").length >= n - 7, "some");
    wire.cut(); // amid what is on its way
    await sent;
    await c.heard.until(() => c.sdk.state === "connecting", "the cut");
    wire.mend();
    await sub.heard.until(() => sub.heard.all("subscribed").length === round + 2, "the recovery");
  }
  assert.deepEqual(await sub.heard.data(n), through(1, n));
  assert.deepEqual(sub.heard.all("subscribed").slice(1).map((s) => s.recovered), Array(5).fill(true));
});

both(test, "more missed than is kept is not recovered, and goes on from now", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:more-${encoding.name}`;
  const sub = await c.subscribed(name);
  await publish(name, 1, 1);
  await sub.heard.data(1);
  await away(wire, c, () => publish(name, 2, 22)); // 20 are kept
  const back = await sub.heard.next("subscribed");
  assert.deepEqual(says(back), lost);
  assert.equal(back.streamPosition.offset, 22);
  await publish(name, 23, 23);
  assert.deepEqual(await sub.heard.data(2), [1, 23]);
});

both(test, "exactly as many missed as are kept is recovered", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:exactly-${encoding.name}`;
  const sub = await c.subscribed(name);
  await publish(name, 1, 1);
  await sub.heard.data(1);
  await away(wire, c, () => publish(name, 2, 21));
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  assert.deepEqual(await sub.heard.data(21), through(1, 21));
});

both(test, "what was published with skip_history leaves no gap", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:skip-${encoding.name}`;
  const sub = await c.subscribed(name);
  await publish(name, 1, 2);
  await node.api("publish", { channel: name, data: "heard", skip_history: true });
  await sub.heard.data(3);
  await away(wire, c, async () => {
    await publish(name, 3, 3);
    await node.api("publish", { channel: name, data: "not heard", skip_history: true });
    await publish(name, 4, 4);
  });
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  await publish(name, 5, 5);
  assert.deepEqual(await sub.heard.data(6), [1, 2, "heard", 3, 4, 5]);
});

both(test, "300 missed are recovered, 301 are not", async (t, encoding) => {
  for (const [missed, want] of [[300, complete], [301, lost]]) {
    const { wire, c } = await behind(t, encoding);
    const name = `long:${missed}-${encoding.name}`;
    const sub = await c.subscribed(name, { recoverable: true });
    const all = { commands: through(1, missed).map((data) => ({ publish: { channel: name, data } })) };
    await away(wire, c, () => node.ask("batch", all));
    assert.deepEqual(says(await sub.heard.next("subscribed")), want, `${missed}`);
    if (want === complete) assert.deepEqual(await sub.heard.data(missed), through(1, missed));
  }
});

both(test, "where recovery is allowed only who asks recovers", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const asks = await c.subscribed(`long:asks-${encoding.name}`, { recoverable: true });
  const not = await c.subscribed(`long:not-${encoding.name}`);
  assert.deepEqual(pick(not.first, "recoverable", "positioned"), { recoverable: false, positioned: false });
  await away(wire, c, async () => { await publish(asks.channel, 1, 2); await publish(not.channel, 1, 2); });
  assert.deepEqual(says(await asks.heard.next("subscribed")), complete);
  assert.deepEqual(says(await not.heard.next("subscribed")), anew);
  await publish(not.channel, 3, 3);
  assert.deepEqual([await asks.heard.data(2), await not.heard.data(1)], [[1, 2], [3]]);
});

both(test, "a subscription that begins at a position of old gets what came after it", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const name = `stream:since-${encoding.name}`;
  await publish(name, 1, 6);
  const { epoch } = await c.sdk.history(name);
  const sub = await c.subscribed(name, { since: { offset: 2, epoch } });
  assert.deepEqual(says(sub.first), complete);
  assert.deepEqual(await sub.heard.data(4), [3, 4, 5, 6]);
});

both(test, "a position of another epoch is not recovered", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const name = `stream:epoch-${encoding.name}`;
  await publish(name, 1, 6);
  for (const [i, epoch] of ["another", "0", "0000000000000001"].entries()) {
    const sub = await c.subscribed(name, { since: { offset: 2, epoch } });
    assert.deepEqual(says(sub.first), lost, `${i}`);
    assert.deepEqual(sub.heard.all("publication"), []);
    sub.unsubscribe();
    c.sdk.removeSubscription(sub);
  }
});

both(test, "an empty epoch stands for the channel's own", async (t, encoding) => {
  const c = await Client.of(t, encoding, node.client, "ann");
  const name = `stream:any-${encoding.name}`;
  await publish(name, 1, 6);
  const sub = await c.subscribed(name, { since: { offset: 0, epoch: "" } });
  assert.deepEqual(says(sub.first), complete);
  assert.deepEqual(await sub.heard.data(6), through(1, 6));
});

// An application that keeps its own state loads it again where something was missed, and is told
// of no subscription with a hole.
both(test, "state that cannot be brought up to date is loaded again", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `stream:state-${encoding.name}`;
  await publish(name, 1, 30); // 20 are kept
  const positions = [{ offset: 3, epoch: "" }, { offset: 3, epoch: "another" }];
  let loads = 0;
  const getState = async () => positions[loads++] ?? await c.sdk.history(name).then(({ offset, epoch }) => ({ offset, epoch }));
  const sub = await c.subscribed(name, { getState, minResubscribeDelay: 10, maxResubscribeDelay: 50 });
  assert.equal(loads, 3);
  assert.deepEqual(says(sub.first), { ...complete, hasRecoveredPublications: false });
  await away(wire, c, () => publish(name, 31, 35));
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  assert.deepEqual(await sub.heard.data(5), through(31, 35));
  assert.equal(loads, 3, "what is complete is not loaded again");
  await away(wire, c, () => publish(name, 36, 70));
  assert.deepEqual(says(await sub.heard.next("subscribed")), { ...complete, hasRecoveredPublications: false });
  assert.equal(loads, 4);
  assert.deepEqual(sub.heard.all("subscribed").map((s) => s.recovered), [true, true, true]);
});

both(test, "a cache gives its newest publication to whoever subscribes, and again to who was away", async (t, encoding) => {
  const { wire, c } = await behind(t, encoding);
  const name = `cache:${encoding.name}`;
  await publish(name, 1, 5);
  const sub = await c.subscribed(name);
  assert.deepEqual(await sub.heard.data(1), [5]);
  await away(wire, c, () => publish(name, 6, 40)); // 10 are kept
  assert.deepEqual(says(await sub.heard.next("subscribed")), complete);
  assert.deepEqual(await sub.heard.data(2), [5, 40]);
  await away(wire, c, () => {});
  assert.deepEqual(says(await sub.heard.next("subscribed")), { ...complete, hasRecoveredPublications: false });
  await publish(name, 41, 41);
  assert.deepEqual(await sub.heard.data(3), [5, 40, 41]);
});

both(test, "subscriptions that a token names begin with the connection and recover after a cut", async (t, encoding) => {
  const names = [`stream:server-${encoding.name}`, `open:server-${encoding.name}`, `$closed:server-${encoding.name}`];
  await publish(names[0], 1, 2);
  const { wire, c } = await behind(t, encoding, { channels: names.slice(0, 2), subs: { [names[2]]: {} } });
  await c.heard.until(() => c.heard.all("subscribed").length === 3, "3 subscriptions");
  assert.deepEqual(c.heard.all("subscribed").map((s) => s.channel).sort(), [...names].sort());
  assert.deepEqual(says(c.heard.all("subscribed").find((s) => s.channel === names[0])), anew);
  const got = () => c.heard.all("publication").filter((p) => p.channel === names[0]).map((p) => p.data);
  for (const channel of names) await node.api("publish", { channel, data: 3 });
  await c.heard.data(3);
  await away(wire, c, () => publish(names[0], 4, 9));
  await c.heard.until(() => c.heard.all("subscribed").length === 6, "3 subscriptions again");
  const back = c.heard.all("subscribed").slice(3).find((s) => s.channel === names[0]);
  assert.deepEqual(says(back), complete);
  await publish(names[0], 10, 10);
  await c.heard.until(() => got().length >= 8, "8 publications");
  assert.deepEqual(got(), through(3, 10));
  await away(wire, c, () => publish(names[0], 11, 40));
  await c.heard.until(() => c.heard.all("subscribed").length === 9, "3 subscriptions a third time");
  assert.deepEqual(says(c.heard.all("subscribed").slice(6).find((s) => s.channel === names[0])), lost);
});

test("a restart is told with 3001, the library comes back, and what the old life had is not recovered", async (t) => {
  const own = await Node.started(t);
  const scenes = [];
  for (const encoding of Object.values(encodings)) {
    const c = await Client.of(t, encoding, own.client, "ann", { channels: [`stream:restart-server-${encoding.name}`] });
    const sub = await c.subscribed(`stream:restart-${encoding.name}`);
    const cache = await c.subscribed(`cache:restart-${encoding.name}`);
    for (const data of [1, 2]) await own.api("broadcast", { channels: [sub.channel, cache.channel], data });
    await sub.heard.data(2);
    await c.heard.next("connecting"); // connect was called
    scenes.push({ c, sub, cache });
  }
  await own.stop();
  for (const { c } of scenes) assert.deepEqual(pick(await c.heard.next("connecting"), "code", "reason"), { code: 3001, reason: "shutdown" });
  await own.run();
  for (const { c, sub, cache } of scenes) {
    const back = await sub.heard.next("subscribed");
    assert.deepEqual(says(back), lost);
    assert.notEqual(back.streamPosition.epoch, sub.first.streamPosition.epoch);
    assert.equal(back.streamPosition.offset, 0);
    assert.deepEqual(says(await cache.heard.next("subscribed")), lost);
    await own.api("publish", { channel: sub.channel, data: "new life" });
    assert.deepEqual(await sub.heard.data(3), [1, 2, "new life"]);
    assert.deepEqual(c.heard.all("disconnected"), []);
    assert.deepEqual(says(c.heard.all("subscribed").at(-1)), lost);
  }
});

test("a new life that has more than the old one had is not taken for it", async (t) => {
  const own = await Node.started(t);
  const c = await Client.of(t, encodings.json, own.client, "ann");
  const sub = await c.subscribed("stream:more-than-before");
  for (let i = 1; i <= 3; i++) await own.api("publish", { channel: sub.channel, data: i });
  await sub.heard.data(3);
  await own.stop("SIGKILL");
  c.sdk.disconnect(); // it keeps its position
  await own.run();
  for (let i = 1; i <= 9; i++) await own.api("publish", { channel: sub.channel, data: `new ${i}` });
  c.sdk.connect();
  assert.deepEqual(says(await sub.heard.next("subscribed")), lost);
  assert.deepEqual(await sub.heard.data(3), [1, 2, 3]);
});

test("a token that has expired while the connection was cut is replaced", async (t) => {
  const { wire, c } = await behind(t, encodings.json, { ttl: 2 }, { getToken: async () => token("ann") });
  const sub = await c.subscribed("stream:expired-while-away");
  await away(wire, c, () => new Promise((resolve) => setTimeout(resolve, 2100)));
  assert.deepEqual(says(await sub.heard.next("subscribed")), { ...complete, hasRecoveredPublications: false });
});
