import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
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

const open = (path = "") => Tab.open(browser, gateway.url + path).then((t) => t.opened());

const named = /^[A-Z][a-z]+ [A-Z][a-z]+$/;

test("two tabs talk to each other, and each knows its own messages", async () => {
  const [a, b, c] = await Promise.all([open(), open(), open()]);
  await a.send("hello from a");
  await b.sees("hello from a");
  await b.send("hello from b");
  const rows = await a.sees("hello from b");

  assert.deepEqual(rows.map((r) => [r.offset, r.text]), [["#1", "hello from a"], ["#2", "hello from b"]]);
  assert.equal(rows[0].from, "you");
  assert.match(rows[1].from, named);
  for (const r of rows) assert.match(r.latency, /^\d+ ms$/);
  assert.deepEqual((await b.sees("hello from b")).map((r) => r.from === "you"), [false, true]);
  const seen = await c.sees("hello from b");
  assert.match(seen[0].from, named);
  assert.equal(seen[1].from, rows[1].from, "a sender has one name in all tabs");
  assert.notEqual(seen[0].from, seen[1].from);
  assert.equal(await a.page.inputValue("#message"), "", "a sent message leaves its field");
  assert.deepEqual([...a.faults, ...b.faults, ...c.faults], []);
  await Promise.all([a.close(), b.close(), c.close()]);
});

test("echo gives each message back to its sender with the round trip", async () => {
  const [a, b] = await Promise.all([open("?channel=echoes"), open("?channel=echoes")]);
  await a.mode("echo");
  await a.says("#state-words", /^Connected to echo$/);
  await a.send("only for me");
  await a.send("and again");
  const rows = await a.sees("and again");
  assert.deepEqual(rows.map((r) => [r.from, r.offset, r.text]), [["you", "", "only for me"], ["you", "", "and again"]]);
  for (const r of rows) assert.match(r.latency, /^[\d.]+ ms$/);

  await b.send("the channel still works");
  await b.sees("the channel still works");
  assert.deepEqual(await b.texts(), ["the channel still works"]);
  await Promise.all([a.close(), b.close()]);
});

test("text of any script arrives as it was typed, in channels of any script", async () => {
  const name = "日本/語&q";
  const path = `?channel=${encodeURIComponent(name)}`;
  const [a, b] = await Promise.all([open(path), open(path)]);
  assert.equal(await a.words(), `Connected to ${name}`);
  const texts = ["你好，世界", "これは長い文章です。", "안녕하세요", "👩‍👩‍👧 e\u0301 \u202eעברית", "two\nlines", "  spaces  "];
  for (const text of texts) await a.send(text);
  await b.sees(texts.at(-1));
  assert.deepEqual(await b.texts(), texts);
  await gateway.publish(name, "from a program");
  assert.equal((await b.sees("from a program")).at(-1).from, "backend");
  await Promise.all([a.close(), b.close()]);
});

test("what was published with skip_history is shown, without an offset", async (t) => {
  const a = await open("?channel=passing");
  t.after(() => a.close());
  await gateway.publish("passing", "kept");
  const body = JSON.stringify({ channel: "passing", data: "not kept", skip_history: true });
  assert.equal((await fetch(`http://${gateway.internal}/api/publish`, { method: "POST", body })).status, 200);
  await gateway.publish("passing", "kept again");
  const rows = await a.sees("kept again");
  assert.deepEqual(rows.map((r) => [r.offset, r.text]), [["#1", "kept"], ["", '"not kept"'], ["#2", "kept again"]]);
});

test("the Enter that ends a composition does not send", async () => {
  const t = await open("?channel=ime");
  const ime = await t.context.newCDPSession(t.page);
  const enter = (code) => ime.send("Input.dispatchKeyEvent", { type: "rawKeyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: code });
  await t.page.focus("#message");
  await ime.send("Input.imeSetComposition", { text: "にほん", selectionStart: 3, selectionEnd: 3 });
  assert.equal(await t.page.inputValue("#message"), "にほん");
  await enter(13); // isComposing
  await ime.send("Input.insertText", { text: "日本" });
  await enter(229); // browsers that end the composition first
  assert.equal(await t.page.inputValue("#message"), "日本");
  await enter(13);
  await t.sees("日本");
  assert.deepEqual(await t.texts(), ["日本"]);
  await t.close();
});

test("markup is shown and not run", async () => {
  const [a, b] = await Promise.all([open("?channel=markup"), open("?channel=markup")]);
  const attacks = [
    `<img src=x onerror="window.hit=1">`,
    `<script>window.hit=2</script>`,
    `</li></ol><svg onload=window.hit=3>`,
    `&lt;b&gt;`,
  ];
  for (const text of attacks) await a.send(text);
  await b.sees(attacks.at(-1));
  assert.deepEqual(await b.texts(), attacks);
  for (const t of [a, b]) {
    assert.equal(await t.page.$$eval("#rows img, #rows script, #rows svg, #rows b", (e) => e.length), 0);
    assert.equal(await t.page.evaluate(() => window.hit), undefined);
    assert.deepEqual(t.faults, []);
    await t.close();
  }

  const named = await Tab.open(browser, `${gateway.url}?channel=${encodeURIComponent('<img/src=x/onerror=window.hit=4>')}`);
  await named.opened();
  assert.equal(await named.page.evaluate(() => window.hit), undefined);
  await named.close();
});

test("binary is described, not guessed at", async () => {
  const t = await open("?channel=binary");
  await gateway.publish("binary", new Uint8Array([0, 1, 2, 255]), { "Content-Type": "application/octet-stream" });
  await t.sees("4 bytes, base64 AAEC/w==");
  await t.close();
});

test("the list keeps 500 rows, follows its end, and leaves a reader in peace", async () => {
  const t = await open("?channel=busy");
  await t.page.waitForSelector("#empty:visible");
  for (let i = 1; i <= 520; i++) await gateway.publish("busy", `m${i}`);
  await t.sees("m520");
  assert.equal((await t.texts()).length, 500);
  assert.equal((await t.texts())[0], "m21");
  const fromEnd = () => t.page.$eval("#log", (e) => e.scrollHeight - e.scrollTop - e.clientHeight);
  assert.ok(await fromEnd() < 2, "the list stands at its end");
  assert.ok(await t.page.isHidden("#newest"));

  await t.page.$eval("#log", (e) => { e.scrollTop = 1000; });
  await t.page.waitForSelector("#newest:visible");
  await gateway.publish("busy", "below");
  await t.page.waitForFunction(() => document.querySelector("#newest").textContent === "Jump to latest (1)");
  assert.ok(await fromEnd() > 1000, "a new message does not take the reader away");
  await t.page.click("#newest");
  assert.ok(await fromEnd() < 2);
  assert.ok(await t.page.isHidden("#newest"));
  await t.close();
});

test("what was said before is shown on joining, in every tab", async (t) => {
  for (let i = 1; i <= 30; i++) await gateway.publish("before", `m${i}`);
  const tab = await open("?channel=before");
  t.after(() => tab.close());
  const kept = Array.from({ length: 20 }, (_, i) => [`#${i + 11}`, "history", `m${i + 11}`]);
  for (const mode of ["ws", "sse", "sdk", "ws"]) {
    await tab.mode(mode);
    await tab.opened();
    await tab.sees("m30");
    assert.deepEqual((await tab.said()).map((r) => [r.offset, r.latency, r.text]), kept, mode);
  }
  await gateway.publish("before", "and now");
  assert.match((await tab.sees("and now")).at(-1).latency, /^\d+ ms$/);
  assert.deepEqual(tab.faults, []);
});

test("over SSE the same channel is read, and a WebSocket beside it writes", async (t) => {
  const [a, b] = await Promise.all([open("?channel=streamed"), open("?channel=streamed")]);
  t.after(() => Promise.all([a.close(), b.close()]));
  await a.mode("sse");
  await a.opened();
  assert.equal(await a.words(), "Connected to streamed");
  await b.send("to the stream");
  await a.sees("to the stream");
  await a.send("from the stream");
  await a.send("and again");
  await b.sees("and again");
  const rows = await a.sees("and again");
  assert.deepEqual(rows.map((r) => [r.offset, r.from === "you", r.text]), [
    ["#1", false, "to the stream"], ["#2", true, "from the stream"], ["#3", true, "and again"]]);
  await a.page.click("#cut");
  await a.inState("waiting");
  await gateway.publish("streamed", "meanwhile");
  await a.page.click("#cut");
  await a.notes(/^Back after [\d.]+ s: caught up on 1 message, none lost$/);
  assert.deepEqual([...a.faults, ...b.faults], []);
});

test("JSON is coloured, and stays what was sent", async (t) => {
  const tab = await open("?channel=json");
  t.after(() => tab.close());
  const texts = ['{"a": [1, -2.5e3, null], "b": "<b>\\"x\\""}', "[]", "{not json", "42"];
  for (const text of texts) await tab.send(text);
  await tab.sees("42");
  assert.deepEqual(await tab.texts(), texts);
  assert.equal(await tab.page.$$eval("#rows .json", (e) => e.length), 2);
  assert.deepEqual(await tab.page.$$eval("#rows .json span", (spans) => spans.map((e) => [e.className, e.textContent])), [
    ["c-key", '"a"'], ["c-number", "1"], ["c-number", "-2.5e3"], ["c-word", "null"], ["c-key", '"b"'], ["c-string", '"<b>\\"x\\""']]);
});

test("fields that cannot be used are explained, and another channel is a click away", async () => {
  const t = await open();
  const cases = [
    ["address", "http//nowhere", /is not a valid address/],
    ["address", "ftp://example.com", /must start with ws: or wss:, not ftp:/],
    ["channel", "two words", /can't contain spaces/],
    ["channel", "x".repeat(256), /at most 255 bytes/],
  ];
  for (const [field, value, words] of cases) {
    const good = await t.page.inputValue(`#${field}`);
    await t.set(field, value);
    assert.equal(await t.page.textContent("#connect"), "Connect");
    await t.connect();
    assert.match(await t.inState("closed"), words);
    await t.set(field, good);
  }
  await t.set("address", gateway.url); // http: is taken for ws:
  await t.set("channel", "elsewhere");
  await t.page.press("#channel", "Enter");
  await t.opened();
  assert.equal(await t.words(), "Connected to elsewhere");
  assert.match(t.page.url(), /\?channel=elsewhere$/);
  assert.ok(await t.page.isHidden("#panel"), "it is out of the way");
  await t.panel();
  await t.page.press("#channel", "Enter");
  assert.equal(await t.words(), "Connected to elsewhere", "Enter in a field does not disconnect");

  await t.connect();
  assert.equal(await t.inState("closed"), "Disconnected");
  await t.send("kept");
  await t.page.waitForFunction(() => /Not connected/.test(document.querySelector("#notice").textContent));
  assert.equal(await t.page.inputValue("#message"), "kept");
  await t.close();
});

test("rows of one target stay when it is opened again, and make room for another's", async (t) => {
  const other = await Gateway.start();
  t.after(() => other.stop());
  const tab = await open("?channel=unheard");
  t.after(() => tab.close());
  const connect = async (field, value) => {
    if (field) await tab.set(field, value);
    await tab.connect();
    await tab.opened();
  };
  const say = async (text) => {
    await tab.send(text);
    await tab.sees(text);
  };
  const rows = async () => (await tab.said()).map((r) => `${r.offset} ${r.text}`);

  await connect("channel", "first");
  await say("first, 1");
  await tab.page.click("#cut");
  await tab.inState("waiting");
  await tab.page.click("#cut");
  await tab.opened();
  await say("first, 2");
  await tab.connect(); // disconnects
  await tab.inState("closed");
  await gateway.publish("first", "first, 3"); // while it is away
  await connect();
  await tab.sees("first, 3");
  await tab.set("address", "ftp://example.com"); // brings no rows
  await tab.connect();
  await tab.inState("closed");
  assert.deepEqual(await rows(), ["#1 first, 1", "#2 first, 2", "#3 first, 3"]);
  await connect("address", gateway.url);
  await say("first, 4");
  assert.deepEqual(await rows(), ["#1 first, 1", "#2 first, 2", "#3 first, 3", "#4 first, 4"]);

  await connect("channel", "news");
  await say("news, 1");
  assert.deepEqual(await rows(), ["#1 news, 1"]);
  await tab.mode("echo");
  await tab.says("#state-words", /^Connected to echo$/);
  await say("echo");
  assert.deepEqual(await rows(), [" echo"]);
  await tab.mode("ws");
  await tab.sees("news, 1");
  assert.deepEqual(await rows(), ["#1 news, 1"]);
  await connect("address", other.url);
  await say("news of another gateway, 1");
  assert.deepEqual(await rows(), ["#1 news of another gateway, 1"]);
  assert.deepEqual(tab.faults, []);
});
