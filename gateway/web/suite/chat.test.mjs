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

test("two tabs talk to each other, and each knows its own messages", async () => {
  const [a, b] = await Promise.all([open(), open()]);
  await a.send("hello from a");
  await b.sees("hello from a");
  await b.send("hello from b");
  const rows = await a.sees("hello from b");

  assert.deepEqual(rows.map((r) => [r.offset, r.text]), [["#1", "hello from a"], ["#2", "hello from b"]]);
  assert.equal(rows[0].from, "you");
  assert.match(rows[1].from, /^…\d{6}$/);
  for (const r of rows) assert.match(r.latency, /^\d+ ms$/);
  assert.deepEqual((await b.sees("hello from b")).map((r) => r.from === "you"), [false, true]);
  assert.equal(await a.page.inputValue("#message"), "", "a sent message leaves its field");
  assert.deepEqual([...a.faults, ...b.faults], []);
  await Promise.all([a.close(), b.close()]);
});

test("echo gives each message back to its sender with the round trip", async () => {
  const [a, b] = await Promise.all([open(), open()]);
  await a.page.check("input[value=echo]");
  await a.page.waitForFunction(() => document.querySelector("#state-words").textContent === "Connected to echo");
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
  assert.equal((await b.sees("from a program")).at(-1).from, "api");
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
    await t.page.click("#connect");
    assert.match(await t.inState("closed"), words);
    await t.set(field, good);
  }
  await t.set("address", gateway.url); // http: is taken for ws:
  await t.set("channel", "elsewhere");
  await t.page.press("#channel", "Enter");
  await t.opened();
  assert.equal(await t.words(), "Connected to elsewhere");
  assert.match(t.page.url(), /\?channel=elsewhere$/);
  await t.page.press("#channel", "Enter");
  assert.equal(await t.words(), "Connected to elsewhere", "Enter in a field does not disconnect");

  await t.page.click("#connect");
  assert.equal(await t.inState("closed"), "Disconnected");
  await t.send("kept");
  await t.page.waitForFunction(() => /Not connected/.test(document.querySelector("#notice").textContent));
  assert.equal(await t.page.inputValue("#message"), "kept");
  await t.close();
});

test("rows of another target are divided from the former ones, and only those", async (t) => {
  const other = await Gateway.start();
  t.after(() => other.stop());
  const tab = await open("?channel=unheard");
  t.after(() => tab.close());
  const connect = async (field, value) => {
    if (field) await tab.set(field, value);
    await tab.page.click("#connect");
    await tab.opened();
  };
  const say = async (text) => {
    await tab.send(text);
    await tab.sees(text);
  };

  await connect("channel", "first"); // with nothing above
  await say("first, 1");
  await tab.page.click("#cut");
  await tab.inState("waiting");
  await tab.page.click("#cut");
  await tab.opened();
  await say("first, 2");
  await tab.page.click("#connect"); // disconnects
  await tab.inState("closed");
  await connect();
  await say("first, 3");
  await tab.set("address", "ftp://example.com"); // brings no rows
  await tab.page.click("#connect");
  await tab.inState("closed");
  await connect("address", gateway.url);
  await say("first, 4");

  await connect("channel", "news");
  await say("news, 1");
  await tab.page.check("input[value=echo]");
  await tab.opened();
  await say("echo");
  await tab.page.check("input[value=chat]");
  await tab.opened();
  await connect("address", other.url);
  await say("news of another gateway, 1");

  const rows = (await tab.rows()).filter((r) => r.note === undefined || r.note.startsWith("Switched to"));
  assert.deepEqual(rows.map((r) => r.note ?? `${r.offset} ${r.text}`), [
    "#1 first, 1", "#2 first, 2", "#3 first, 3", "#4 first, 4",
    "Switched to news", "#1 news, 1",
    "Switched to echo", " echo",
    "Switched to news", "Switched to news", "#1 news of another gateway, 1",
  ]);
  assert.deepEqual(tab.faults, []);
});
