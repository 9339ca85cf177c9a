// The page's tab of the SDK: messages, who is here, and what is kept.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Client } from "./client.mjs";
import { Gateway } from "./gateway.mjs";

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

// plain opens the same channel in the tab of the plain WebSocket.
async function plain(t, channel) {
  const tab = await Tab.open(browser, `${gateway.url}?channel=${channel}`);
  t.after(() => tab.close());
  return tab.opened();
}

const named = /^[A-Z][a-z]+ [A-Z][a-z]+$/;

test("two tabs talk through the SDK, and meet a plain WebSocket", async (t) => {
  const [a, b, raw] = await Promise.all([open(t, "talk"), open(t, "talk"), plain(t, "talk")]);
  await a.send("hello from a");
  await b.sees("hello from a");
  await b.send("hello from b");
  await a.sees("hello from b");
  await raw.send("from a plain one");
  const rows = await b.sees("from a plain one");

  assert.deepEqual(rows.map((r) => [r.offset, r.latency, r.text]), [
    ["#1", "live", "hello from a"], ["#2", "live", "hello from b"], ["#3", "live", "from a plain one"]]);
  assert.match(rows[0].from, named);
  assert.deepEqual(rows.slice(1).map((r) => r.from), ["you", "unnamed"]);
  assert.equal((await a.sees("hello from a"))[0].from, "you");
  assert.equal(await a.page.inputValue("#message"), "", "a published message leaves its field");
  await raw.sees('"hello from b"'); // a string of JSON
  assert.deepEqual([...a.faults, ...b.faults, ...raw.faults], []);
});

test("who is here is known, and who comes and goes", async (t) => {
  const a = await open(t, "presence");
  assert.deepEqual(await a.here(1), ["you"]);
  const b = await open(t, "presence");
  const both = await b.here(2);
  assert.ok(both.includes("you") && both.some((name) => named.test(name)), both.join(" "));
  assert.equal((await a.here(2)).length, 2);
  await b.close();
  assert.deepEqual(await a.here(1), ["you"]);

  const c = await open(t, "presence");
  await a.here(2);
  await c.connect();
  assert.equal(await c.inState("closed"), "Disconnected");
  assert.deepEqual(await a.here(1), ["you"]);
  assert.ok(await c.page.isHidden("#here"));
});

test("what comes while the history is asked for is shown after it, and once", async (t) => {
  for (let i = 1; i <= 3; i++) await gateway.publish("kept", `m${i}`);
  const c = await plain(t, "kept");
  await c.page.evaluate(async () => { // an answer that comes late
    const { Session } = await import("./session.js");
    const { join } = Session.prototype;
    Session.prototype.join = function () {
      const history = this.sub.history.bind(this.sub);
      this.sub.history = async (options) => {
        const answer = await history(options);
        await new Promise((resolve) => { globalThis.goOn = resolve; });
        return answer;
      };
      return join.call(this);
    };
  });
  await c.mode("sdk");
  await c.opened();
  await c.page.waitForFunction(() => globalThis.goOn);
  await gateway.publish("kept", "m4");
  await c.page.evaluate(() => globalThis.goOn());
  const rows = await c.sees("m4");
  assert.deepEqual(rows.map((r) => [r.offset, r.text]), [["#1", "m1"], ["#2", "m2"], ["#3", "m3"], ["#4", "m4"]]);
});

test("an object of JSON is published and shown as JSON", async (t) => {
  const [a, b, raw] = await Promise.all([open(t, "json"), open(t, "json"), plain(t, "json")]);
  await a.send('{ "text": "hi", "list": [1, null] }');
  await b.sees('{"text":"hi","list":[1,null]}');
  await raw.sees('{"text":"hi","list":[1,null]}');
  await gateway.publish("json", '{"from":"api"}');
  await gateway.publish("json", new Uint8Array([0, 255]), { "Content-Type": "application/octet-stream" });
  await b.sees('{"base64":"AP8="}');
  await a.send("[1"); // no JSON
  await b.sees("[1");
  await a.send("42"); // a string, as it was typed
  assert.deepEqual((await b.sees("42")).map((r) => r.text), [
    '{"text":"hi","list":[1,null]}', '{"from":"api"}', '{"base64":"AP8="}', "[1", "42"]);
  assert.equal(await b.page.$$eval("#rows .json", (e) => e.length), 3);
});

test("markup is shown and not run", async (t) => {
  const channel = "markup'<img/src=x/onerror=window.hit=0>";
  const [a, b] = await Promise.all([open(t, channel), open(t, channel)]);
  const attacks = [
    `<img src=x onerror="window.hit=1">`,
    `<script>window.hit=2</script>`,
    `{"</li></ol><svg onload=window.hit=3>":"<img src=x onerror=window.hit=4>"}`,
  ];
  for (const text of attacks) await a.send(text);
  assert.deepEqual((await b.sees(attacks.at(-1))).map((r) => r.text), attacks);
  for (const tab of [a, b]) {
    assert.equal(await tab.page.$$eval("main .stream :is(img, script, svg)", (e) => e.length), 0);
    assert.equal(await tab.page.evaluate(() => window.hit), undefined);
    assert.deepEqual(tab.faults, []);
  }
});
