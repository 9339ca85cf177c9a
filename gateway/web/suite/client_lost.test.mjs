// The page's tab of the SDK: connections that are lost, and what comes after.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Client } from "./client.mjs";
import { Gateway, Wire } from "./gateway.mjs";

let browser, gateway;

before(async () => {
  browser = await launch();
  gateway = await Gateway.start();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

const open = (t, channel) => Client.begin(t, browser, gateway.url, channel).then((c) => c.opened());

test("what was published while offline comes once, marked as recovered", async (t) => {
  const c = await open(t, "away");
  await c.send("before");
  await c.sees("before");
  await c.page.click("#cut");
  assert.equal(await c.inState("offline"), "You went offline");
  assert.equal(await c.page.textContent("#cut"), "Go online");
  assert.equal(await c.page.textContent("#here-words"), "Not available while disconnected.");
  const plain = await Tab.open(browser, `${gateway.url}?channel=away`);
  t.after(() => plain.close());
  await plain.opened();
  await plain.send("missed 1");
  await plain.sees("missed 1");
  for (let i = 2; i <= 4; i++) await gateway.publish("away", `missed ${i}`);
  const body = JSON.stringify({ channel: "away", data: { text: "hello from a shell" } });
  assert.equal((await fetch(`http://${gateway.internal}/api/publish`, { method: "POST", body })).status, 200);
  assert.equal(await c.inState("offline"), "You went offline", "it does not come back by itself");

  await c.page.click("#cut");
  assert.match(await c.notes(/^Back after .*Caught up/), /^Back after [\d.]+ s, recovered: true\. Caught up on 5 messages, #2 to #6$/);
  await gateway.publish("away", "after");
  assert.deepEqual((await c.sees("after")).map((r) => [r.offset, r.latency, r.text]), [
    ["#1", "live", "before"],
    ["#2", "recovered", "missed 1"], ["#3", "recovered", "missed 2"], ["#4", "recovered", "missed 3"], ["#5", "recovered", "missed 4"],
    ["#6", "recovered", '{"text":"hello from a shell"}'],
    ["#7", "live", "after"],
  ]);

  await c.page.click("#cut");
  await c.inState("offline");
  await c.page.click("#cut");
  await c.notes(/recovered: true\. Nothing was missed$/);
  assert.deepEqual(await c.here(1), ["you"]);
  assert.deepEqual(c.faults, []);
});

test("a broken connection is opened again, and what was missed comes once", async (t) => {
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  const c = await Client.begin(t, browser, wire.url, "broken");
  await c.opened();
  await gateway.publish("broken", "before");
  await c.sees("before");
  wire.cut();
  await c.notes(/^Connection lost \(1\)$/);
  await c.says("#state-words", /^Can't reach the gateway: it may be restarting.*Retrying…$/);
  await gateway.publish("broken", "meanwhile");
  wire.mend();
  await c.notes(/recovered: true\. Caught up on 1 message, #2$/);
  await gateway.publish("broken", "after");
  assert.deepEqual((await c.sees("after")).map((r) => r.text), ["before", "meanwhile", "after"]);
});

test("a restarted gateway is shown as a lost history", async (t) => {
  const own = await Gateway.start();
  t.after(() => own.stop());
  const c = await Client.begin(t, browser, own.url, "anew");
  await c.opened();
  await own.publish("anew", "in the old life");
  await c.sees("in the old life");
  await own.stop();
  await c.notes(/^The gateway is shutting down \(3001\)$/);
  await own.run();
  const words = await c.notes(/^Back after/);
  assert.match(words, /^Back after [\d.]+ s, recovered: false\. The channel's history started over, so messages may be lost$/);
  await c.send("in the new life");
  const rows = await c.sees("in the new life");
  assert.deepEqual(rows.map((r) => [r.offset, r.text]), [["#1", "in the old life"], ["#1", "in the new life"]]);
});

test("more missed than is kept is shown by its offsets", async (t) => {
  const own = await Gateway.start("--history", "3");
  t.after(() => own.stop());
  const c = await Client.begin(t, browser, own.url, "short");
  await c.opened();
  await own.publish("short", "before");
  await c.sees("before");
  await c.page.click("#cut");
  await c.inState("offline");
  for (let i = 1; i <= 5; i++) await own.publish("short", `missed ${i}`);
  await c.page.click("#cut");
  await c.notes(/recovered: false\. The messages after #1 and up to #6 were missed, and not all of them are still in the history$/);
});

test("an address at which nothing answers is named, and tried again until it does", async (t) => {
  const own = await Gateway.start();
  t.after(() => own.stop());
  const c = await Client.begin(t, browser, own.url, "lobby");
  await c.opened();
  await own.stop();
  await c.says("#state-words", /^Can't reach the gateway: it may be restarting, or the network is down\. Retrying…$/);
  await own.run();
  await c.opened();

  await c.set("address", "ftp://example.com");
  assert.equal(await c.page.textContent("#connect"), "Connect", "the fields describe another connection");
  await c.connect();
  assert.match(await c.inState("closed"), /must start with ws: or wss:, not ftp:/);
});

test("a gateway that does not speak the protocol is explained, and a message that is too big", async (t) => {
  const silent = await Gateway.start("--client-protocol", "off");
  t.after(() => silent.stop());
  const c = await Client.begin(t, browser, silent.url, "lobby");
  await c.says("#state-words", /^Can't connect: the gateway is full or runs with --client-protocol off/);
  await c.connect();
  assert.equal(await c.inState("closed"), "Disconnected");

  const d = await open(t, "big");
  await d.page.fill("#message", "x".repeat(70_000));
  await d.page.press("#message", "Enter");
  assert.match(await d.inState("closed"), /^Closed: the message was larger than the gateway accepts \(--max-message\) \(3\)$/);
  assert.equal((await d.page.inputValue("#message")).length, 70_000);
});
