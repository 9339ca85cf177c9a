import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { launch, Tab } from "./browser.mjs";
import { Gateway, Wire } from "./gateway.mjs";

const exec = promisify(execFile);
let browser, gateway;

before(async () => {
  browser = await launch();
  gateway = await Gateway.start();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

// copied presses a copy button and gives what the clipboard holds.
async function copied(tab, what) {
  await tab.context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await tab.page.click(`[data-copies=${what}]`);
  await tab.page.waitForFunction(() => document.querySelector("#notice").textContent === "Copied.");
  return tab.page.evaluate(() => navigator.clipboard.readText());
}

test("the JavaScript to copy reads, publishes, comes back and goes on where it was", async (t) => {
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  const tab = await Tab.open(browser, `${wire.url}?channel=${encodeURIComponent("it's/日本")}`);
  t.after(() => tab.close());
  await tab.opened();
  const code = await copied(tab, "javascript");
  assert.ok(code.trim().split("\n").length <= 16, "it is short");

  const page = await tab.context.newPage(); // as in somebody's own page
  const printed = [];
  page.on("console", (m) => printed.push(m.text()));
  const prints = async (line) => {
    while (!printed.includes(line)) await page.waitForEvent("console");
  };
  await page.goto(`${wire.url}healthz`);
  await page.addScriptTag({ content: code });
  await page.waitForFunction("ws.readyState === WebSocket.OPEN && since !== 'now'");
  await page.evaluate(`ws.send("sent by the snippet")`);
  await tab.sees("sent by the snippet");
  const publish = (text) => gateway.publish("it's/日本", text);
  await publish("live");
  await prints("api live");

  wire.cut();
  await page.waitForFunction("ws.readyState === WebSocket.CLOSED");
  await publish("missed");
  wire.mend();
  await prints("api missed");
  await publish("live again");
  await prints("api live again");
  assert.deepEqual(printed.filter((line) => line.startsWith("api ")), ["api live", "api missed", "api live again"]);
  assert.ok(!printed.some((line) => line.includes("were lost")));
});

test("the curl line publishes, whatever the channel is called", async (t) => {
  const name = "it's/日本&$(touch,pwned)`!*[1-3]{a,b};#%41";
  const tab = await Tab.open(browser, gateway.url);
  t.after(() => tab.close());
  await tab.opened();
  assert.match(await tab.page.textContent("#curl"), new RegExp(`^curl -d 'hello from a shell' http://${gateway.internal}/publish/lobby$`));
  await tab.set("channel", name);
  await tab.page.click("#connect");
  await tab.page.waitForFunction((n) => document.querySelector("#state-words").textContent === `Connected to ${n}`, name);
  const { stdout } = await exec("sh", ["-c", await copied(tab, "curl")]);
  assert.equal(JSON.parse(stdout).offset, 1, stdout);
  const rows = await tab.sees("hello from a shell");
  assert.equal(rows[0].from, "api");

  await tab.set("client-channel", name);
  const api = await exec("sh", ["-c", await copied(tab, "api-curl")]);
  assert.equal(JSON.parse(api.stdout).result.offset, 2, api.stdout);
  await tab.sees('{"text":"hello from a shell"}');
});

test("both boxes follow the fields, and without a known address for publishing show where to put it", async (t) => {
  const tab = await Tab.open(browser, gateway.url);
  t.after(() => tab.close());
  await tab.set("address", "wss://example.com/live/");
  await tab.set("channel", "news");
  assert.match(await tab.page.textContent("#javascript"), /^const url = "wss:\/\/example\.com\/live\/ws\/news\?format=json";\n/);
  assert.match(await tab.page.textContent("#curl"), /\/publish\/news$/);

  const [unknown, quoted, api, tokens] = await tab.page.evaluate(async () => {
    const { curlFor, curlForAPI, quote, tokensFor } = await import("./snippets.js");
    return [curlFor("", "news"), quote("a'b c"), curlForAPI("", "news"), tokensFor("a'b")];
  });
  assert.equal(unknown, "curl -d 'hello from a shell' -H 'X-API-Key: KEY' http://INTERNAL-ADDRESS:9000/publish/news");
  assert.equal(api, `curl -d '{"channel":"news","data":{"text":"hello from a shell"}}' -H 'X-API-Key: KEY' http://INTERNAL-ADDRESS:9000/api/publish`);
  assert.match(tokens, /--channel 'a'\\''b'\n$/);
  assert.equal(quoted, `'a'\\''b c'`);
});
