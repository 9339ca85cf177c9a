import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { launch, Tab } from "./browser.mjs";
import { Gateway, Wire } from "./gateway.mjs";
import { javascriptFor } from "../page/snippets.js";

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

// copied presses a copy button and returns what the clipboard holds.
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
  assert.ok(code.trim().split("\n").length <= 22, "it is short");

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
  assert.ok(!printed.some((line) => line.includes("may be lost")));
});

// attempts runs a client's code in front of sockets that a test opens and closes.
function attempts(code) {
  const seen = { sockets: [], waits: [], printed: [] };
  class WebSocket {
    constructor(url) {
      this.url = url;
      seen.sockets.push(this);
    }
  }
  const setTimeout = (f, ms) => { seen.waits.push(ms); f(); };
  const print = (...words) => seen.printed.push(words);
  new Function("WebSocket", "setTimeout", "console", code)(WebSocket, setTimeout, { log: print, warn: print, error: print });
  seen.newest = () => seen.sockets.at(-1);
  return seen;
}

// The client to copy, and the longer one of PROTOCOL.md.
const clients = {
  "the JavaScript to copy": () => javascriptFor("ws://127.0.0.1:8000/ws/news?format=json"),
  "the client of PROTOCOL.md": async () => {
    const page = await readFile(new URL("../../PROTOCOL.md", import.meta.url), "utf8");
    return page.match(/^```js file=client\.mjs\n(.*?)^```$/ms)[1];
  },
};

for (const [name, code] of Object.entries(clients)) {
  test(`${name} backs off while it is refused, and stops where it would be closed again`, async () => {
    const a = attempts(await code());
    const between = (ms, least) => assert.ok(ms >= least && ms < 2 * least, `${ms} ms, wanted ${least} to ${2 * least}`);
    for (const least of [500, 1000, 2000, 4000, 8000, 8000]) {
      a.newest().onopen?.(); // a full gateway with --refuse close accepts first
      a.newest().onclose({ code: 1013, reason: "over a limit: try again later" });
      between(a.waits.at(-1), least);
    }
    a.newest().onmessage({ data: '{"gap":false,"channel":"news","epoch":"e","offset":7,"conn":"1"}' });
    a.newest().onmessage({ data: '{"channel":"news","epoch":"e","offset":8,"prev":7,"at":1,"from":"api","base64":"AP8="}' });
    assert.deepEqual(a.printed, [["api", new Uint8Array([0, 255])]]);
    a.newest().onmessage({ data: '{"channel":"news","epoch":"e","offset":12,"prev":8,"at":1,"from":"api","data":"behind a hole"}' });
    assert.deepEqual(a.printed.slice(1), [["api", "behind a hole"]]);
    a.newest().onmessage({ data: '{"channel":"news","epoch":"e","offset":20,"prev":15,"at":1,"from":"api","data":"behind a loss"}' });
    assert.deepEqual(a.printed.slice(2), [["messages may be lost: load the current state again"], ["api", "behind a loss"]]);
    a.newest().onclose({ code: 1008, reason: "no response to ping" });
    between(a.waits.at(-1), 500);
    assert.equal(a.newest().url, "ws://127.0.0.1:8000/ws/news?format=json&since=e:20");

    const before = a.sockets.length;
    a.newest().onclose({ code: 1008, reason: "publishing is not allowed here" });
    assert.equal(a.sockets.length, before);
  });
}

// sseClient is the SSE client of PROTOCOL.md that handles every close, in front of a gateway.
async function sseClient(url) {
  const page = await readFile(new URL("../../PROTOCOL.md", import.meta.url), "utf8");
  const code = page.match(/^```js checked\n(const url = "http:\/\/127\.0\.0\.1:8000\/sse\/news.*?)^```$/ms)[1];
  return code.replace("http://127.0.0.1:8000/", url);
}

test("the SSE client of PROTOCOL.md knows its position in a channel without messages", async (t) => {
  const own = await Gateway.start();
  t.after(() => own.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const printed = [];
  page.on("console", (m) => printed.push(m.text()));
  const prints = async (pattern) => {
    while (!printed.some((line) => pattern.test(line))) await page.waitForEvent("console");
  };
  await page.goto(`${own.url}healthz`);
  const first = page.waitForResponse(/\/sse\/news/);
  await page.addScriptTag({ content: await sseClient(own.url) });
  await first;
  const second = page.waitForRequest(/\/sse\/news.*since=\w+:0$/);
  await own.stop();
  await second; // after the event close
  await own.run();
  await prints(/^gap /);
  await own.publish("news", "after the restart");
  await prints(/^message /);
  assert.ok(!printed.some((line) => line.startsWith("messages may be lost")), "the gap says it");
});

test("the SSE client of PROTOCOL.md says so when it is refused without a position", async () => {
  const streams = [], printed = [];
  class EventSource {
    static CLOSED = 2;
    constructor(url) { Object.assign(this, { url, on: {} }); streams.push(this); }
    addEventListener(type, f) { this.on[type] = f; }
    close() { this.readyState = 2; }
  }
  const print = (...words) => printed.push(words.join(" "));
  const code = await sseClient("http://127.0.0.1:8000/");
  new Function("EventSource", "setTimeout", "console", code)(EventSource, (f) => f(), { log: print, warn: print });
  const refuse = () => { streams.at(-1).readyState = 2; streams.at(-1).onerror(); };
  refuse();
  assert.deepEqual(printed, ["messages may be lost: load the current state again"]);
  streams.at(-1).onmessage({ type: "message", lastEventId: "e:8", data: "{}" });
  refuse();
  assert.equal(printed.length, 2);
  streams.at(-1).on.close({ lastEventId: "", data: '{"code":1013}' });
  assert.match(streams.at(-1).url, /&since=e:8$/);
  const before = streams.length;
  streams.at(-1).on.close({ lastEventId: "e:8", data: '{"code":1008}' });
  assert.equal(streams.length, before);
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
