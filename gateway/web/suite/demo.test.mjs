// What the page shows of the gateway on its own machine: numbers, and visitors to bring.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findings } from "./axe.mjs";
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

async function open(t, options, url = gateway.url) {
  const tab = await Tab.open(browser, url, options);
  t.after(() => tab.close());
  return tab.opened();
}

// tile returns a number of the strip.
const tile = (tab, i) => tab.page.textContent(`#numbers dl > div:nth-child(${i}) .value`);

test("the strip shows what the gateway does now", async (t) => {
  const a = await open(t);
  await a.says("#numbers dl > div:nth-child(1) .value", /^1$/);
  assert.equal(await tile(a, 5), "–", "the memory of one connection cannot be told from so few");
  const b = await open(t);
  await a.says("#numbers dl > div:nth-child(1) .value", /^2$/);
  const publishing = setInterval(() => gateway.publish("lobby", "something").catch(() => {}), 50);
  t.after(() => clearInterval(publishing));
  await a.says("#numbers dl > div:nth-child(2) .value", /^[1-9]/);
  await a.says("#numbers dl > div:nth-child(3) .value", /^[1-9]/);
  await a.says("#numbers dl > div:nth-child(4) .value", /^[\d.]+ [µm]?s · [\d.]+ [µm]?s$/);
  assert.match(await a.page.getAttribute("#numbers dl > div:nth-child(3) path:last-child", "d"), /^M\d+ [\d.]+(L\d+ [\d.]+)+$/, "a line");
  assert.match(await a.page.textContent("#version"), /./);
  assert.deepEqual([...a.faults, ...b.faults], []);
});

test("the strip goes on after a restart of the gateway", async (t) => {
  const own = await Gateway.start();
  t.after(() => own.stop());
  const tab = await open(t, {}, own.url);
  await own.publish("lobby", "something");
  await tab.says("#numbers dl > div:nth-child(1) .value", /^1$/);
  await own.stop();
  await tab.page.waitForSelector("#numbers.stale");
  await own.run();
  await tab.page.waitForSelector("#numbers:not(.stale)");
  await tab.opened();
  await tab.says("#numbers dl > div:nth-child(1) .value", /^1$/);
});

test("with --demo off, and for a page that is not on the gateway's machine, there is neither", async (t) => {
  const own = await Gateway.start("--demo", "off");
  t.after(() => own.stop());
  const tab = await open(t, {}, own.url);
  const asked = tab.page.waitForResponse(/\/demo\/numbers$/);
  await tab.page.reload();
  assert.equal((await asked).status(), 404);
  await tab.opened();
  const elsewhere = await open(t, {}, gateway.url.replace("127.0.0.1", "gateway.test"));
  for (const { page } of [tab, elsewhere]) {
    for (const id of ["#numbers", "#visitors"]) assert.ok(await page.isHidden(id), id);
  }
});

test("1,000 visitors come, are reached, are cut, and have lost nothing", async (t) => {
  const shots = process.env.SHOTS;
  if (shots) mkdirSync(shots, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    const tab = await open(t, { colorScheme });
    const { page } = tab;
    const painted = () => page.$eval("#dots", (c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data.reduce((n, v, i) => n + (i % 4 === 3 && v > 128), 0));
    await page.waitForSelector("#bring:visible");
    const empty = await painted();
    await page.click("#bring");
    await page.waitForSelector("#visitors[data-state=open]");
    await tab.says("#visitors-here", /^1,000$/);
    assert.ok(await painted() > 1.5 * empty, "the dots are lit");
    await tab.says("#numbers dl > div:nth-child(1) .value", /^1,00\d$/);
    await tab.says("#numbers dl > div:nth-child(5) .value", /^(≈ [\d.]+ K?B|–)$/);

    await tab.send("to everyone");
    await tab.says("#received", /^1,000$/);
    await page.check("#ticking");
    await tab.says("#rows .ticks", /^× \d+$/);
    await tab.says("#received", /^\d?\d\d,\d{3}$/);
    await page.click("#cut-visitors");
    const words = await tab.says("#visitors-words", /lost/);
    assert.match(words, /^100 were cut, and were back after [\d.]+ s\. They caught up on [\d,]+ messages?: 0 lost, 0 repeated\.$/);
    await tab.says("#visitors-here", /^1,000$/);
    assert.deepEqual([await page.textContent("#lost"), await page.textContent("#repeated")], ["0", "0"]);
    assert.deepEqual(await findings(page), [], `${colorScheme}, with visitors`);
    if (shots) await page.screenshot({ path: join(shots, `visitors-${colorScheme}.png`) });

    await page.click("#send-home");
    await page.waitForSelector("#bring:visible");
    assert.equal(await page.isChecked("#ticking"), false, "nothing is sent to nobody");
    await tab.says("#numbers dl > div:nth-child(1) .value", /^\d$/);
    assert.deepEqual(tab.faults, []);
    await tab.close();
  }
});

test("what the ledgers count as lost is shown as such", async (t) => {
  const tab = await open(t);
  const dots = Buffer.alloc(125, 0b01111111).toString("base64");
  const lines = [
    { type: "connecting", connected: 1000, of: 1000 },
    { type: "open", dots },
    { type: "ledger", received: 41_000, lost: 3, repeated: 1, p50: 0.0042, p99: 1.23 },
    { type: "back", cut: 100, after: 2.5, caught_up: 1, lost: 3, repeated: 1 },
  ];
  await tab.page.route("**/demo/visitors", (route) => route.fulfill({ body: lines.map((l) => `${JSON.stringify(l)}\n`).join("") }));
  const seen = tab.page.evaluate(() => new Promise((resolve) => { // the answer ends at once, and with it the visitors
    new MutationObserver(() => {
      const text = (id) => document.getElementById(id).textContent;
      if (/were cut/.test(text("visitors-words"))) {
        resolve([...["received", "lost", "repeated", "visitors-p50", "visitors-p99", "visitors-here", "visitors-words"].map(text), document.getElementById("ledger").className]);
      }
    }).observe(document.getElementById("visitors-words"), { childList: true });
  }));
  await tab.page.click("#bring");
  assert.deepEqual(await seen, ["41,000", "3", "1", "4.2 ms", "1.2 s", "875", "100 were cut, and were back after 2.5 s. They caught up on 1 message: 3 lost, 1 repeated.", "ledger bad"]);
  await tab.says("#visitors-words", /^The visitors have left$/);
});

test("a page that may not publish stops trying, and says so", async (t) => {
  const own = await Gateway.start("--raw", "listen");
  t.after(() => own.stop());
  const tab = await open(t, {}, own.url);
  await tab.page.click("#bring");
  await tab.page.waitForSelector("#visitors[data-state=open]");
  for (const mode of ["ws", "echo"]) {
    await tab.mode(mode);
    await tab.opened();
    await tab.page.check("#ticking");
    await tab.says("#visitors-words", /^From here, nothing can be published to the channel\.$/);
    assert.equal(await tab.page.isChecked("#ticking"), false);
    if (mode === "ws") assert.equal((await tab.rows()).filter((r) => /1008/.test(r.note)).length, 1);
    await tab.page.evaluate(() => { document.getElementById("visitors-words").textContent = ""; });
  }
});

test("two pages cannot bring visitors at once, and the second learns why", async (t) => {
  const [a, b] = await Promise.all([open(t), open(t)]);
  await a.page.click("#bring");
  await a.page.waitForSelector("#visitors[data-state=open]");
  await b.page.click("#bring");
  await b.says("#visitors-words", /visitors/);
  await b.page.waitForSelector("#bring:visible");
  await a.close(); // ends them
  await b.page.click("#bring");
  await b.page.waitForSelector("#visitors[data-state=open]");
});

test("a quantile of a histogram is that of what was added", async (t) => {
  const tab = await open(t);
  const got = await tab.page.evaluate(async () => {
    const { quantiles } = await import("./numbers.js");
    const bounds = [0.001, 0.01, 0.1];
    return [
      quantiles({ bounds, counts: [5, 0, 0, 0] }, { bounds, counts: [5, 0, 0, 0] }, [0.5]),
      quantiles({ bounds, counts: [5, 0, 0, 0] }, { bounds, counts: [5, 100, 0, 0] }, [0.5, 1]),
      quantiles({ bounds, counts: [0, 0, 0, 0] }, { bounds, counts: [50, 0, 0, 50] }, [0.5, 0.99]),
      quantiles({ bounds: [], counts: [] }, { bounds: [], counts: [] }, [0.5]),
    ].map((all) => all?.map((v) => Math.round(v * 1e5) / 1e5) ?? null);
  });
  assert.deepEqual(got, [null, [0.0055, 0.01], [0.001, 0.1], null]);
});
