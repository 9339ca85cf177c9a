import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Gateway, Wire } from "./gateway.mjs";

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// scene returns a gateway behind a wire and a tab that came through it. Everything is
// ended with the test.
async function scene(t, ...flags) {
  const gateway = await Gateway.start(...flags);
  t.after(() => gateway.stop());
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  const tab = await Tab.open(browser, wire.url);
  t.after(() => tab.close());
  await tab.opened();
  return { gateway, wire, tab };
}

const said = (rows) => rows.filter((r) => r.note === undefined);

test("what was published while the connection was lost arrives, marked, and none twice", async (t) => {
  const { gateway, wire, tab } = await scene(t);
  await tab.send("own before");
  await tab.sees("own before");
  await gateway.publish("lobby", "before");
  await tab.sees("before");
  wire.cut();
  assert.match(await tab.inState("waiting"), /^Connection closed \(1006\): there was no close message/);
  assert.match(await tab.page.textContent("#countdown"), /^ in \d+ s$/);
  for (const text of ["missed 1", "missed 2", "missed 3"]) await gateway.publish("lobby", text);
  wire.mend();
  assert.match(await tab.notes(/caught up/), /^Back after [\d.]+ s: caught up on \d messages?, none lost$/);
  await tab.sees("missed 3");
  await tab.send("own after");
  await tab.sees("own after");
  await gateway.publish("lobby", "after");

  const rows = said(await tab.sees("after"));
  assert.deepEqual(rows.map((r) => [r.offset, r.text, r.latency === "caught up"]), [
    ["#1", "own before", false], ["#2", "before", false],
    ["#3", "missed 1", true], ["#4", "missed 2", true], ["#5", "missed 3", true],
    ["#6", "own after", false], ["#7", "after", false],
  ]);
  assert.deepEqual([rows[0].from, rows[5].from], ["you", "you"], "a new connection's own messages are known too");
  assert.match(await tab.notes(/^Back after/), /: caught up on 3 messages, none lost$/);
  assert.deepEqual(tab.faults, []);
});

test("a connection that an operator closes stays closed, and the page says so", async (t) => {
  const { gateway, tab } = await scene(t);
  const connections = `http://${gateway.internal}/api/connections`;
  const list = await (await fetch(connections)).json();
  await fetch(`${connections}/${list.connections[0].id}/close`, { method: "POST" });
  assert.equal(await tab.inState("closed"), "Connection closed (1008): an operator of the gateway closed it");
  await tab.connect();
  await tab.opened();
});

test("a connection lost again and again loses nothing", async (t) => {
  const { gateway, wire, tab } = await scene(t);
  let n = 0;
  for (let round = 0; round < 3; round++) {
    await gateway.publish("lobby", `m${++n}`);
    wire.cut(); // the message may be on its way
    await gateway.publish("lobby", `m${++n}`);
    await tab.inState("waiting");
    wire.mend();
    await tab.page.evaluate(() => dispatchEvent(new Event("online")));
    await tab.opened();
  }
  await gateway.publish("lobby", `m${++n}`);
  const rows = said(await tab.sees(`m${n}`));
  assert.deepEqual(rows.map((r) => r.offset), rows.map((_, i) => `#${i + 1}`));
  assert.equal(rows.length, n);
});

test("messages that are no longer kept are shown as lost, and the rest comes", async (t) => {
  const { gateway, wire, tab } = await scene(t, "--history", "100");
  await gateway.publish("lobby", "before");
  await tab.sees("before");
  wire.cut();
  await tab.inState("waiting");
  for (let i = 1; i <= 130; i++) await gateway.publish("lobby", `missed ${i}`);
  wire.mend();
  assert.match(await tab.notes(/caught up on 100 messages/), /^Back after [\d.]+ s: messages after #1 and up to #31 lost, no longer in the history; caught up on 100 messages$/);
  await tab.sees("missed 130"); // the note counts a message before its row is drawn
  assert.deepEqual((await tab.texts()).slice(0, 2), ["before", "missed 31"]);
  assert.equal((await tab.texts()).length, 101);
});

test("a restarted gateway is shown as a gap", async (t) => {
  const { gateway, tab } = await scene(t);
  await gateway.publish("lobby", "in the old life");
  await tab.sees("in the old life");
  await gateway.stop();
  assert.match(await tab.notes(/closed/), /^Connection closed \(1001\): the gateway is shutting down$/);
  await gateway.run();
  assert.match(await tab.notes(/may be lost/), /^Back after [\d.]+ s: messages may be lost, because the channel's history started over$/);
  await tab.opened();
  await tab.send("in the new life");
  const rows = said(await tab.sees("in the new life"));
  assert.deepEqual(rows.map((r) => [r.offset, r.from, r.latency === "caught up"]), [["#1", "backend", false], ["#1", "you", false]]);
});

test("a connection can be cut by hand, and comes back at once when the network does", async (t) => {
  const { gateway, tab } = await scene(t);
  await tab.page.click("#cut");
  assert.equal(await tab.inState("waiting"), "You cut the connection. Reconnecting");
  await gateway.publish("lobby", "meanwhile");
  await tab.page.click("#cut"); // now: Reconnect now
  assert.match(await tab.notes(/caught up/), /: caught up on 1 message, none lost$/);
  await tab.opened();

  await tab.page.click("#cut");
  await tab.inState("waiting");
  await tab.context.setOffline(true);
  await tab.context.setOffline(false);
  await tab.opened(); // a cut waits 5 s by itself
  assert.match(await tab.notes(/: nothing was missed$/), /^Back after [0-4]\.\d s: nothing was missed$/);

  await tab.page.click("#cut");
  await tab.inState("waiting");
  await tab.connect();
  assert.equal(await tab.inState("closed"), "Disconnected");
  assert.ok(await tab.page.isHidden("#cut"));
});

test("a message that is too big is explained and given back", async (t) => {
  const { gateway, tab } = await scene(t);
  const big = "x".repeat(70_000);
  await tab.page.fill("#message", big);
  await tab.page.press("#message", "Enter");
  assert.match(await tab.notes(/1009/), /^Connection closed \(1009\): the message was larger than the gateway accepts \(--max-message\)$/);
  assert.equal(await tab.page.inputValue("#message"), big);
  await tab.opened();
  await gateway.publish("lobby", "and goes on");
  await tab.sees("and goes on");
});

test("a subscribe-only client learns how to change that, and goes on listening", async (t) => {
  const { gateway, tab } = await scene(t, "--raw", "listen");
  await tab.send("may I?");
  assert.match(await tab.notes(/1008/), /clients may not publish to this channel.*--raw publish.*curl/);
  await tab.says("#state-words", /^Connected to lobby \(subscribe only\)$/);
  assert.equal(await tab.page.inputValue("#message"), "may I?");
  await tab.page.press("#message", "Enter");
  await tab.notes(/^Not sent: clients may not publish to this channel/);
  assert.equal(await tab.page.getAttribute("#state", "data-state"), "open", "it is not tried again");
  await gateway.publish("lobby", "listen");
  await tab.sees("listen");
});

for (const refuse of ["http", "close"]) {
  test(`a gateway that is full is tried again, and is joined when it has room: --refuse ${refuse}`, async (t) => {
    const { gateway, tab } = await scene(t, "--max-connections", "1", "--refuse", refuse);
    const late = await Tab.open(browser, gateway.url);
    t.after(() => late.close());
    for (const mode of ["ws", "sse"]) {
      await late.mode(mode);
      assert.match(await late.inState("waiting"), /^Can't connect: the gateway says “.*” \((503|1013)\)\. Retrying$/);
      assert.match(await late.page.textContent("#countdown"), /^ in \d+ s$/);
    }
    await tab.close();
    await late.opened();
    assert.equal(await late.words(), "Connected to lobby");
  });
}

test("close codes are words", async (t) => {
  const { tab } = await scene(t);
  const words = await tab.page.evaluate(async () => {
    const { closeWords } = await import("./words.js");
    return [closeWords(1013, "too slow"), closeWords(1008, "no response to ping"), closeWords(1008, "elsewise"), closeWords(4321, ""), closeWords(4321, "why")];
  });
  assert.match(words[0], /too slow/);
  assert.match(words[1], /pings/);
  assert.equal(words[2], "“elsewise”");
  assert.equal(words[3], "an unknown close code");
  assert.equal(words[4], "“why”");
});
