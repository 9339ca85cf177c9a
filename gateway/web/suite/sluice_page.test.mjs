// sluice.js in a page: imported from a gateway by a page of another origin, and as the pages of
// documentation show it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Gateway, Wire } from "./gateway.mjs";

const patience = 60_000; // ms
let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// foreign returns an origin whose pages run a script, and what opens one.
async function foreign(t) {
  let script;
  const server = http.createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html><link rel=icon href=data:,><script type=module>${script}</script>`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); server.closeAllConnections(); });
  const origin = `http://friend.test:${server.address().port}`;
  const open = async (code) => {
    script = code;
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    page.printed = [];
    for (const [event, words] of [["console", (m) => m.text()], ["pageerror", (err) => `uncaught: ${err.message}`]]) {
      page.on(event, (value) => { page.printed.push(words(value)); page.emit("printed"); });
    }
    page.prints = async (line) => {
      while (!page.printed.includes(line)) {
        await Promise.race([
          new Promise((resolve) => page.once("printed", resolve)),
          new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${JSON.stringify(line)} in ${JSON.stringify(page.printed)}`)), patience).unref()),
        ]);
      }
    };
    await page.goto(origin);
    return page;
  };
  return { origin, open };
}

const urls = { WebSocket: (host) => `ws://${host}/ws/news`, SSE: (host) => `http://${host}/sse/news` };
const compressed = ["--compression", "shared", "--compression-min", "1"];
for (const [name, url, encoding, ...flags] of [
  ["WebSocket", urls.WebSocket], ["SSE", urls.SSE],
  ["WebSocket, compressed", urls.WebSocket, "permessage-deflate", ...compressed], ["SSE, compressed", urls.SSE, "gzip", ...compressed],
]) {
  test(`${name}: a page of an allowed origin imports it, and resumes`, async (t) => {
    const { origin, open } = await foreign(t);
    const gateway = await Gateway.start("--allowed-origins", origin, ...flags);
    t.after(() => gateway.stop());
    const wire = await Wire.to(gateway.port);
    t.after(() => wire.close());
    await gateway.publish("news", "before");
    const page = await open(`
      import { subscribe } from "${gateway.url}sluice.js";
      globalThis.news = subscribe("${url(new URL(wire.url).host)}", {
        history: 10,
        onMessage(m) {
          console.log(m.from === "api" ? "api" : "own", typeof m.data === "string" ? m.data : m.data.constructor.name + " " + m.data);
          if (m.data === "trouble") throw new Error("of the page");
        },
        onGap: (gap) => console.log("gap"),
        onState: (s) => console.log(s.state),
      });`);
    await page.prints("api before");
    await gateway.publish("news", "trouble");
    await gateway.publish("news", new Uint8Array([0, 255]), { "Content-Type": "application/octet-stream" });
    await page.prints("api Uint8Array 0,255");
    await page.prints("uncaught: of the page");
    const { connections } = await (await fetch(`http://${gateway.internal}/api/connections`)).json();
    assert.deepEqual(connections.map((c) => c.compression), [encoding]);
    if (url === urls.WebSocket) {
      await page.evaluate("news.publish(new Blob([new Uint8Array([7])]))");
      await page.prints("own Uint8Array 7");
    }
    wire.cut();
    await page.prints("waiting");
    await gateway.publish("news", "missed");
    wire.mend();
    await page.prints("api missed");
    assert.ok(!page.printed.includes("gap"));

    await page.evaluate("news.cut(3_600_000)");
    await page.waitForFunction("news.state === 'waiting'");
    await page.evaluate(() => dispatchEvent(new Event("online")));
    await page.waitForFunction("news.state === 'open'");
    await page.evaluate("news.close()");
    await page.prints("closed");
  });
}

test("a page of an origin that is not allowed imports it, and may not connect", async (t) => {
  const { open } = await foreign(t);
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const page = await open(`
    import { subscribe } from "${gateway.url}sluice.js";
    for (const url of ["ws://${gateway.host}/ws/news", "http://${gateway.host}/sse/news"]) {
      subscribe(url, { onState: (s) => s.state !== "connecting" && console.log(url, s.state, s.code) });
    }`);
  await page.prints(`ws://${gateway.host}/ws/news waiting 1006`);
  await page.prints(`http://${gateway.host}/sse/news waiting 1006`);
});

// The examples of the pages, with this gateway's address in place of theirs.
for (const [file, mark] of [["../../../README.md", "js checked"], ["../../PROTOCOL.md", "js file=client.mjs"]]) {
  test(`the example of ${file.replace(/^[./]+/, "")} works`, async (t) => {
    const { origin, open } = await foreign(t);
    const gateway = await Gateway.start("--allowed-origins", origin);
    t.after(() => gateway.stop());
    const text = await readFile(new URL(file, import.meta.url), "utf8");
    const code = [...text.matchAll(new RegExp(`^\`\`\`${mark}\\n(.*?)^\`\`\`$`, "gms"))].map((m) => m[1]).find((c) => c.includes("subscribe("));
    const [, name, channel] = code.match(/^const (\w+) = subscribe\(".*\/(\w+)"/m);
    await gateway.publish(channel, "before");
    const page = await open(`${code.replaceAll("127.0.0.1:8000", gateway.host).replace('"./sluice.mjs"', `"${gateway.url}sluice.js"`)}\nglobalThis.it = ${name};`);
    await page.prints("api before");
    const [, later] = code.match(/^(?:\}\);)? ?\/\/ later.*: (.*)$/m);
    await page.waitForFunction("it.state === 'open'");
    await page.evaluate(later.replace(name, "it"));
    const line = new RegExp(`^\\d+ hello$`);
    while (!page.printed.some((l) => line.test(l))) await page.waitForEvent("console", { timeout: patience });
  });
}
