// The operator's page, at / of the internal listener.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Console, files, key, keyed, member, raw } from "./console.mjs";
import { Gateway, sluice } from "./gateway.mjs";

let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

test("the API key opens the page, for this browser and until it logs out", async (t) => {
  const g = await keyed(t);
  const c = await Console.open(t, browser, g);
  await c.login("wrong");
  assert.equal(await c.says("#login-fault", /./), "The API key is wrong.");
  assert.deepEqual(await c.tab.context.cookies(), []);
  await c.login(`  ${key} `);
  await c.ready();
  const [cookie, ...others] = await c.tab.context.cookies();
  assert.deepEqual({ ...cookie, value: "", expires: 0 }, {
    name: `sluice_session_${g.internal.split(":")[1]}`, value: "", domain: "127.0.0.1", path: "/", expires: 0, httpOnly: true, secure: false, sameSite: "Strict",
  });
  assert.ok(Math.abs(cookie.expires - Date.now() / 1000 - 12 * 3600) < 120, "it lasts 12 hours");
  assert.deepEqual(others, []);
  assert.deepEqual(await c.page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length, location.href.includes("key")]), ["", 0, 0, false]);

  await c.page.reload();
  await c.ready();
  const stranger = await Console.open(t, browser, g);
  await stranger.page.waitForSelector("#login:not([hidden])");

  await c.page.click("#logout-form button");
  await c.page.waitForSelector("#login:not([hidden])");
  const taken = await fetch(`http://${g.internal}/metrics`, { headers: { Cookie: `${cookie.name}=${cookie.value}` } });
  assert.equal(taken.status, 401, "the session is over, not only forgotten");
  assert.deepEqual(c.faults, []);
});

test("ten wrong keys are enough for a minute", async (t) => {
  const c = await Console.open(t, browser, await keyed(t));
  for (let i = 0; i < 10; i++) {
    await c.page.evaluate(() => { document.querySelector("#login-fault").textContent = ""; });
    await c.login(`guess ${i}`);
    await c.says("#login-fault", /^The API key is wrong\.$/);
  }
  await c.login(key);
  await c.says("#login-fault", /^Too many wrong API keys from this address: wait a minute\.$/);
});

test("pages of others get nothing, also by a name that becomes this machine's", async (t) => {
  const g = await Gateway.start();
  t.after(() => g.stop());
  const socket = await raw(t, g, "lobby");
  const got = [];
  socket.on("message", (m) => got.push(String(m)));
  const port = g.internal.split(":")[1];

  // A page of the same machine, at another port: the browser sends the request, and hides the answer.
  const other = await Tab.open(browser, `http://${g.internal}/healthz`.replace(port, g.port));
  t.after(() => other.close());
  await other.page.evaluate(async (internal) => {
    await fetch(`http://${internal}/publish/lobby`, { method: "POST", mode: "no-cors", body: "from another page" }).catch(() => {});
    const form = document.createElement("form");
    Object.assign(form, { action: `http://${internal}/publish/lobby`, method: "post", enctype: "text/plain" });
    form.append(Object.assign(document.createElement("input"), { name: "from a form", value: "x" }));
    document.body.append(form);
    form.submit();
  }, g.internal);
  await other.page.waitForURL(`http://${g.internal}/publish/lobby`);
  assert.match(await other.page.textContent("body"), /"code":"forbidden"/);

  const rebound = await Tab.open(browser, `http://rebound.test:${port}/`);
  t.after(() => rebound.close());
  assert.match(await rebound.page.textContent("body"), /"code":"forbidden"/);
  assert.deepEqual(await rebound.page.evaluate(async () => {
    const posted = await fetch("/publish/lobby", { method: "POST", body: "by another name" });
    return [posted.status, (await fetch("/metrics")).status, (await fetch("/console/main.js")).status];
  }), [403, 403, 403]);

  // The page itself may, without a key, on this machine.
  const c = await Console.open(t, browser, g, { hash: "#/channels/lobby" });
  await c.ready();
  assert.equal(await c.page.isVisible("#logout-form"), false);
  await c.page.fill("#publish-text", "from the page");
  await c.page.click(".publish button");
  await c.says(".publish [role=status]", /^Published at offset 1 to 1 subscriber\.$/);
  if (got.length < 1) await once(socket, "message");
  assert.deepEqual(got, ["from the page"]);
  assert.deepEqual(c.faults, []);
});

test("names and payloads of clients are text", async (t) => {
  const evil = `<img/src=x/onerror=alert(1)>"'&`;
  const secret = (await sluice("token", "secret")).trim();
  const paths = await files(t, { secret, channels: JSON.stringify({ without_namespace: { presence: true, history_size: 10, history_ttl: "300s", allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true } }) });
  const g = await keyed(t, "--token-hmac-secret-file", paths.secret, "--namespaces", paths.channels);
  const token = (await sluice("token", "make", "--token-hmac-secret-file", paths.secret, "--user", evil, "--info", JSON.stringify({ name: evil }))).trim();
  await member(t, g, token, evil);
  await g.publish(evil, `<script>alert(2)</script>${evil}`, { "X-API-Key": key });
  await g.publish(evil, new Uint8Array([0, 255]), { "X-API-Key": key, "Content-Type": "application/octet-stream" });

  const c = await Console.open(t, browser, g);
  await c.login();
  await c.ready();
  await c.page.click(`.channels a >> text=${evil}`);
  assert.equal(await c.says(".channel-name", /img/), evil);
  await c.page.waitForFunction(() => document.querySelectorAll(".publications code").length === 2 && document.querySelectorAll(".clients li").length === 1);
  assert.deepEqual(await c.page.$$eval(".publications code", (all) => all.map((e) => e.textContent)), ["base64 AP8=", `<script>alert(2)</script>${evil}`]);
  assert.equal(await c.page.textContent(".clients strong"), evil);
  assert.equal(await c.page.textContent(".clients code"), JSON.stringify({ name: evil }));
  await c.view("#/connections");
  await c.says(".connections .under", /img/);
  await c.page.click(".connections button");
  await c.says("#confirm-text", /img/);
  assert.deepEqual(await c.page.$$eval("#main img, #main script, dialog img", (all) => all.length), 0);
  assert.deepEqual(c.faults, []);
});

test("charts show what the gateway does", async (t) => {
  const g = await Gateway.start();
  t.after(() => g.stop());
  const sockets = await Promise.all(Array.from({ length: 20 }, () => raw(t, g, "lobby")));
  const c = await Console.open(t, browser, g);
  await c.ready();
  let on = true;
  const publishing = (async () => {
    while (on) {
      await g.publish("lobby", "x".repeat(100));
      await new Promise((done) => setTimeout(done, 20)); // the rate, nothing that is waited for
    }
  })();
  await c.chart("Connections", /^20$/);
  await c.chart("Publications per second", /^[1-9]/);
  await c.chart("Deliveries per second", /^[1-9]/);
  await c.chart("Delivery latency", /^[\d.]+ (µs|ms|s)$/);
  await c.chart("Event loop lag", /^[\d.]+ (µs|ms|s)$/);
  await c.says('.chart[aria-label="Buffered bytes"] .legend', /^pending[\d.]+ .*kernel TCP[\d.]+ .*history[\d.]+ /);
  await c.says('.chart[aria-label="Deliveries per second"] .note', /^to 20 subscriptions$/);
  await c.chart("CPU", /^[\d.]+ %$/);
  await c.chart("Memory", /MiB$/);
  await c.says(".channels", /lobby[\d.]+20/);
  for (const s of sockets.splice(0, 5)) s.close();
  await c.chart("Connections", /^15$/);
  await c.says('.chart[aria-label="Closed connections per second"] .legend', /client_(close|gone)5/);
  on = false;
  await publishing;
  assert.equal(await c.page.$$eval(".chart canvas", (all) => all.length), 9);
  // The pointer shows what was.
  const box = await (await c.page.$(".chart .u-over")).boundingBox();
  await c.page.mouse.move(box.x + box.width - 3, box.y + 20);
  await c.says(".chart .note", /^\d\d:\d\d:\d\d$/);
  assert.deepEqual(c.faults, []);
});

test("an operator closes a connection, and is asked before", async (t) => {
  const g = await keyed(t);
  const socket = await raw(t, g, "lobby");
  const c = await Console.open(t, browser, g, { hash: "#/connections" });
  await c.login();
  await c.ready();
  await c.says(".connections tbody", /127\.0\.0\.1.*lobby/);
  await c.page.click(".connections button");
  await c.page.waitForSelector("#confirm[open]");
  await c.page.keyboard.press("Enter"); // which is Cancel's
  await c.page.waitForSelector("#confirm:not([open])", { state: "attached" });
  assert.equal(socket.readyState, socket.OPEN);
  const closed = once(socket, "close");
  await c.page.click(".connections button");
  await c.page.click("#confirm-yes");
  assert.equal((await closed)[0], 1008);
  await c.says(".table .empty", /^Nobody is connected\.$/);
  assert.deepEqual(c.faults, []);
});

test("it shows how far a shutdown has come", async (t) => {
  const g = await keyed(t, "--drain-delay", "5s", "--close-timeout", "20s", "--shutdown-timeout", "40s");
  const silent = net.connect(g.port, "127.0.0.1"); // it does not answer a Close frame
  t.after(() => silent.destroy());
  silent.write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  await once(silent, "data");
  const c = await Console.open(t, browser, g);
  await c.login();
  await c.ready();
  assert.equal(await c.page.isVisible("#drain"), false);
  g.process.kill("SIGTERM");
  await c.says("#drain-words", /^Shutting down: clients are still accepted, until load balancers have noticed\.$/);
  assert.equal(await c.page.isVisible("#drain-bar"), false);
  await c.says("#state-words", /^Not ready: draining$/);
  await c.says("#drain-words", /^Shutting down: 1 of 1 connections left, 1 closing\.$/);
  assert.deepEqual(await c.page.$eval("#drain-bar", ({ max, value }) => ({ max, value })), { max: 1, value: 0 });
  if (process.env.SHOTS) await c.page.screenshot({ path: `${process.env.SHOTS}/console-drain.png` });
  await c.view("#/nodes");
  await c.says(".badge", /^draining$/);
  assert.deepEqual(c.faults, []);
});

test("it shows an upgrade, and its operator stays logged in", async (t) => {
  const paths = await files(t, { key });
  const { program, file } = await Gateway.held(dirname(paths.key));
  const g = new Gateway();
  Object.assign(g, { program, host: "127.0.0.1:0", internal: "127.0.0.1:0", flags: ["--api-key-file", paths.key] });
  await g.run();
  t.after(() => g.stop());
  const c = await Console.open(t, browser, g);
  await c.login();
  await c.ready();
  assert.equal(await c.page.isVisible("#drain"), false);
  await writeFile(file, "");
  const upgraded = fetch(`http://${g.internal}/api/upgrade`, { method: "POST", headers: { "X-API-Key": key } });
  await c.says("#drain:not([hidden]) #drain-words", /^Upgrading: a new process is about to take over\. Clients are served as before\.$/);
  assert.equal(await c.page.isVisible("#drain-bar"), false);
  await c.says("#state-words", /^Ready$/);
  if (process.env.SHOTS) await c.page.screenshot({ path: `${process.env.SHOTS}/console-upgrade.png` });
  await rm(file);
  const report = await (await upgraded).json();
  t.after(() => process.kill(report.pid));
  await c.page.waitForSelector("#drain", { state: "hidden" });
  const metrics = await c.page.evaluate(async () => (await fetch("/metrics")).text());
  assert.match(metrics, /^sluice_upgrades_total 1$/m);
  await c.ready();
  assert.equal(await c.page.isVisible("#login"), false);
  assert.deepEqual(c.faults, []);
});

test("it says when the gateway is gone, and goes on when it is back", async (t) => {
  const g = await keyed(t);
  const c = await Console.open(t, browser, g);
  await c.login();
  await c.ready();
  await g.stop("SIGKILL");
  await c.page.waitForSelector("#state[data-state=lost]");
  assert.match(await c.page.textContent("#banner"), /^The gateway does not answer\. What you see is from \d\d:\d\d:\d\d\. Trying again\.$/);
  await g.run();
  await c.page.waitForSelector("#login:not([hidden])"); // a session ends with the process
  await c.login();
  await c.ready();
  await c.page.waitForSelector("#banner", { state: "hidden" });
  assert.deepEqual(c.faults, []);
});

test("it asks nothing while nobody looks", async (t) => {
  const g = await Gateway.start();
  t.after(() => g.stop());
  const c = await Console.open(t, browser, g);
  await c.ready();
  const asked = [];
  c.page.on("request", (r) => asked.push(new URL(r.url()).pathname));
  const look = (hidden) => c.page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await c.page.waitForRequest(/metrics/);
  await look(true);
  await c.page.waitForTimeout(500); // what was under way
  asked.length = 0;
  await c.page.waitForTimeout(2500); // longer than a turn
  assert.deepEqual(asked, []);
  await Promise.all([c.page.waitForRequest(/metrics/), look(false)]);
});

test("it is used with the keyboard alone, and the focus is always seen", async (t) => {
  const g = await keyed(t);
  await raw(t, g, "lobby");
  const c = await Console.open(t, browser, g);
  await c.page.waitForSelector("#login:not([hidden])");
  assert.equal(await c.page.evaluate(() => document.activeElement.id), "key");
  await c.page.keyboard.type(key);
  await c.page.keyboard.press("Enter");
  await c.ready();
  await c.says(".channels", /lobby/);
  await c.page.focus(".skip");
  const order = [];
  for (let i = 0; i < 9; i++) {
    const [name, seen] = await c.page.evaluate(() => {
      const e = document.activeElement;
      const ring = getComputedStyle(e.type === "radio" ? e.nextElementSibling : e);
      return [e.type === "radio" ? e.value : e.textContent.trim() || e.getAttribute("aria-label"), ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2];
    });
    assert.ok(seen, `the focus on ${name} is not seen`);
    order.push(name);
    await c.page.keyboard.press("Tab");
  }
  assert.deepEqual(order.slice(0, 9), ["Skip to the content", "sluice", "Overview", "Channels", "Connections", "Namespaces", "Nodes", "Log out", "300"]);
  await c.page.focus("nav a:nth-child(2)");
  await c.page.keyboard.press("Enter");
  await c.page.focus("#channel");
  await c.page.keyboard.type("lobby");
  await c.page.keyboard.press("Enter");
  await c.says(".facts", /Subscribers1/);
  await c.page.focus("#publish-text");
  await c.page.keyboard.type("typed");
  await c.page.keyboard.press("Tab");
  await c.page.keyboard.press("Enter");
  await c.says(".publications", /typed/);
  assert.equal(await c.page.title(), "Channels · sluice operator");
  assert.deepEqual(c.faults, []);
});

test("the nodes, and what a node's store does", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-data-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const g = await keyed(t, "--data-dir", join(dir, "data"), "--node-name", "gw-1");
  for (let i = 0; i < 3; i++) await g.publish("lobby", "x", { "X-API-Key": key });
  const c = await Console.open(t, browser, g, { hash: "#/nodes" });
  await c.login();
  await c.ready();
  await c.says(".nodes tbody", /^gw-1.*up000/);
  await c.says(".facts", /Connectionup.*Storeup.*Awayno.*Publications stored3/);
  await c.says("#main", /No channel had a gap\./);
  assert.deepEqual(c.faults, []);
});
