// The second part of the page: messages, who is here, and what is kept.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
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

const open = (t, channel) => Client.open(t, browser, gateway.url, channel).then((c) => c.opened());

test("two tabs talk through the SDK, and meet the first part", async (t) => {
  const [a, b] = await Promise.all([open(t, "talk"), open(t, "talk")]);
  await a.publish("hello from a");
  await b.sees("hello from a");
  await b.publish("hello from b");
  await a.sees("hello from b");
  await a.tab.send("from the first part");
  const rows = await b.sees("from the first part");

  assert.deepEqual(rows.map((r) => [r.offset, r.how, r.text]), [
    ["#1", "live", "hello from a"], ["#2", "live", "hello from b"], ["#3", "live", "from the first part"]]);
  assert.match(rows[0].from, /^[0-9a-f]{8}$/);
  assert.deepEqual(rows.slice(1).map((r) => r.from), ["you", ""]);
  assert.equal((await a.sees("hello from a"))[0].from, "you");
  assert.equal(await a.page.inputValue("#client-message"), "", "a published message leaves its field");
  await a.tab.sees('"hello from b"'); // a string of JSON
  assert.deepEqual([...a.tab.faults, ...b.tab.faults], []);
});

test("who is here is known, and who comes and goes", async (t) => {
  const a = await open(t, "presence");
  assert.deepEqual(await a.here(1), ["you"]);
  const b = await open(t, "presence");
  const both = await b.here(2);
  assert.ok(both.includes("you") && both.some((name) => /^[0-9a-f]{8}$/.test(name)), both.join(" "));
  assert.equal((await a.here(2)).length, 2);
  await b.tab.close();
  assert.deepEqual(await a.here(1), ["you"]);

  const c = await open(t, "presence");
  await a.here(2);
  await c.page.click("#client-connect");
  assert.equal(await c.inState("closed"), "Disconnected");
  assert.deepEqual(await a.here(1), ["you"]);
  assert.equal(await c.page.textContent("#here-words"), "Connect to see who is here.");
});

test("the history gives what is kept, the newest first", async (t) => {
  const c = await open(t, "kept");
  await c.page.click("#kept");
  await c.says("#kept-words", /^The history is empty\.$/);
  for (let i = 1; i <= 12; i++) await gateway.publish("kept", i === 12 ? '{"n":12}' : `m${i}`);
  await c.page.click("#kept");
  await c.says("#kept-words", /^10 messages, newest first$/);
  const rows = await c.page.$$eval("#kept-rows li", (all) => all.map((e) => e.textContent));
  assert.deepEqual(rows, ['#12{"n":12}', "#11m11", "#10m10", "#9m9", "#8m8", "#7m7", "#6m6", "#5m5", "#4m4", "#3m3"]);
});

test("an object of JSON is published and shown as JSON", async (t) => {
  const [a, b] = await Promise.all([open(t, "json"), open(t, "json")]);
  await a.publish('{ "text": "hi", "list": [1, null] }');
  await b.sees('{"text":"hi","list":[1,null]}');
  await b.tab.sees('{"text":"hi","list":[1,null]}');
  await gateway.publish("json", '{"from":"api"}');
  await gateway.publish("json", new Uint8Array([0, 255]), { "Content-Type": "application/octet-stream" });
  await a.publish("[1"); // no JSON
  await a.publish("42"); // a string, as it was typed
  assert.deepEqual((await b.sees("42")).map((r) => r.text), [
    '{"text":"hi","list":[1,null]}', '{"from":"api"}', '{"base64":"AP8="}', "[1", "42"]);
  assert.equal(await b.page.$$eval("#client-rows .json", (e) => e.length), 3);
});

test("markup is shown and not run", async (t) => {
  const channel = "markup'<img/src=x/onerror=window.hit=0>";
  const [a, b] = await Promise.all([open(t, channel), open(t, channel)]);
  const attacks = [
    `<img src=x onerror="window.hit=1">`,
    `<script>window.hit=2</script>`,
    `{"</li></ol><svg onload=window.hit=3>":"<img src=x onerror=window.hit=4>"}`,
  ];
  for (const text of attacks) await a.publish(text);
  assert.deepEqual((await b.sees(attacks.at(-1))).map((r) => r.text), attacks);
  await b.page.click("#kept");
  await b.says("#kept-words", /^3 messages/);
  for (const { page, tab } of [a, b]) {
    assert.equal(await page.$$eval("main .stream :is(img, script, svg)", (e) => e.length), 0);
    assert.equal(await page.evaluate(() => window.hit), undefined);
    assert.deepEqual(tab.faults, []);
  }
});
