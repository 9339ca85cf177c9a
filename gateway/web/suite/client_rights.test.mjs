// The page with keys: tokens and namespaces, and what is not allowed.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Client } from "./client.mjs";
import { Gateway, sluice } from "./gateway.mjs";

let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

// keys returns a file with a secret, one with namespaces, and what makes tokens.
async function keys(t, namespaces) {
  const dir = await mkdtemp(join(tmpdir(), "sluice-keys-"));
  t.after(() => rm(dir, { recursive: true }));
  const secret = join(dir, "secret"), file = join(dir, "channels.json");
  await writeFile(secret, await sluice("token", "secret"), { mode: 0o600 });
  await writeFile(file, JSON.stringify(namespaces));
  return {
    secret, file,
    // token runs a line as the page shows it, in which the file is called secret.
    async token(line) {
      const words = line.trim().split(/\s+/).slice(1).map((w) => (w === "secret" ? secret : w));
      return (await sluice(...words)).trim();
    },
    // expired returns a token that was good once, which the command does not make.
    async expired() {
      const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "42", exp: 1_000_000_000 })}`;
      return `${signed}.${createHmac("sha256", (await readFile(secret, "utf8")).trim()).update(signed).digest("base64url")}`;
    },
    make: async (...flags) => (await sluice("token", "make", "--token-hmac-secret-file", secret, ...flags)).trim(),
  };
}

test("with keys the lines of the page make the tokens that are needed", async (t) => {
  const k = await keys(t, {});
  const own = await Gateway.start("--token-hmac-secret-file", k.secret);
  t.after(() => own.stop());
  const c = await Client.begin(t, browser, own.url, "chat:1");
  assert.match(await c.inState("closed"), /^Closed: this channel needs a subscription token.*--insecure to try it \(103\)$/);
  await c.page.waitForSelector("#keys:visible");

  const [forConnection, forChannel] = (await c.page.textContent("#tokens")).trim().split("\n");
  await c.tokens(await k.token(forConnection), await k.token(forChannel));
  await c.page.click("#keys .primary");
  await c.opened();
  assert.ok(await c.page.isHidden("#keys"), "they are out of the way");
  await c.says("#here-words", /^Presence is off for this channel: set "presence": true.*\(108\)$/);
  await c.notes(/^You are not allowed to read the history: .*start the gateway with --insecure to try it \(103\)$/);
  await c.send("may I?");
  await c.notes(/^Not published: you are not allowed to publish to this channel: .*start the gateway with --insecure to try it.*\(103\)$/);
  assert.equal(await c.page.inputValue("#message"), "may I?", "it is given back");

  for (const [token, words] of [
    ["nonsense", /^Closed: the gateway rejected the token.*\(3500\)$/],
    [await k.expired(), /^Closed: the token is missing or has expired: make a new one, as shown here \(1\)$/],
    [await k.make("--user", "42", "--channels", "chat:1"), /^Closed: the gateway has already subscribed you.*\(105\)$/],
  ]) {
    await c.tokens(token);
    await c.page.click("#keys .primary");
    await c.says("#state-words", words);
  }
});

test("with keys a plain connection says what is needed, and takes a token", async (t) => {
  const k = await keys(t, { namespaces: [{ name: "open", allow_subscribe_for_client: true, history_size: 10, history_ttl: "60s" }] });
  const own = await Gateway.start("--token-hmac-secret-file", k.secret, "--namespaces", k.file);
  t.after(() => own.stop());
  for (const mode of ["ws", "sse"]) {
    const tab = await Tab.open(browser, `${own.url}?channel=open:1`);
    t.after(() => tab.close());
    await tab.mode(mode);
    assert.equal(await tab.inState("closed"), "This gateway asks for a token");
    await tab.page.waitForSelector("#keys:visible");
    await tab.tokens("nonsense");
    await tab.page.press("#token", "Enter");
    await tab.says("#state-words", /^This token is not accepted \(401\)\. The gateway's log says why$/);

    const [forConnection, forChannel] = (await tab.page.textContent("#tokens")).trim().split("\n");
    await tab.tokens(await k.token(forChannel)); // it may not read the history: that is tried without
    await tab.page.click("#keys .primary");
    await tab.opened();
    assert.equal(await tab.words(), "Connected to open:1");
    assert.ok(await tab.page.isHidden("#keys"));
    await own.publish("open:1", "heard");
    await tab.sees("heard");

    await tab.set("channel", "none");
    await tab.tokens(await k.token(forConnection));
    await tab.connect();
    await tab.says("#state-words", /^This token is not for this channel$/);

    await tab.tokens(await k.token(forConnection));
    await tab.set("channel", "closed:1");
    await tab.connect();
    await tab.says("#state-words", /^Can't connect: the gateway says “Unknown channel: its namespace is not configured\.” \(404\)$/);
    assert.deepEqual(tab.faults, []);
  }
});

test("a plain connection whose token expires ends, and another token is asked for", async (t) => {
  const k = await keys(t, {});
  const own = await Gateway.start("--token-hmac-secret-file", k.secret);
  t.after(() => own.stop());
  const tab = await Tab.open(browser, `${own.url}?channel=chat:1`);
  t.after(() => tab.close());
  await tab.inState("closed");
  await tab.tokens(await k.make("--user", "42", "--channel", "chat:1", "--expires", "6s"));
  await tab.page.click("#keys .primary");
  await tab.opened();
  assert.equal(await tab.inState("closed"), "Connection closed (3005): the token has expired");
  await tab.page.waitForSelector("#keys:visible");
});

test("the fields for tokens stay while one is typed, also when the connection opens meanwhile", async (t) => {
  const own = await Gateway.start();
  t.after(() => own.stop());
  const tab = await Tab.open(browser, own.url);
  t.after(() => tab.close());
  await tab.opened();
  await tab.tokens("");
  await tab.page.click("#cut");
  await tab.page.click("#cut");
  await tab.mode("sse");
  await tab.says("#state[data-state=open] #state-words", /lobby/);
  await tab.mode("ws");
  await tab.says("#state[data-state=open] #state-words", /lobby/);
  assert.ok(await tab.page.isVisible("#keys"));
  await tab.page.click("#keys .primary");
  await tab.opened();
  await tab.page.waitForSelector("#keys", { state: "hidden" });
});

test("a token in the address is used", async (t) => {
  const k = await keys(t, {});
  const own = await Gateway.start("--token-hmac-secret-file", k.secret);
  t.after(() => own.stop());
  const tab = await Tab.open(browser, `${own.url}?channel=chat:1`);
  t.after(() => tab.close());
  await tab.inState("closed");
  await tab.set("address", `ws://${own.host}?token=${await k.make("--user", "42", "--channel", "chat:1")}`);
  await tab.connect();
  await tab.opened();
  assert.equal(await tab.words(), "Connected to chat:1");
});

test("an expired token is named as such, and users are called by their names", async (t) => {
  const k = await keys(t, { namespaces: [{ name: "chat", allow_subscribe_for_client: true, presence: true, join_leave: true, allow_presence_for_subscriber: true }] });
  const own = await Gateway.start("--token-hmac-secret-file", k.secret, "--namespaces", k.file);
  t.after(() => own.stop());
  const a = await Client.begin(t, browser, own.url, "chat:1", { token: await k.make("--user", "Ann", "--info", '{"name":"<b>Ann"}') });
  await a.opened();
  assert.match(await a.says("#here-rows", /Ann/), /^youAnn, \{"name":"<b>Ann"\}$/);
  const b = await Client.begin(t, browser, own.url, "chat:1", { token: await k.make("--user", "Bob", "--expires", "6s") });
  await b.opened();
  assert.deepEqual(await a.here(2), ["Bob", "you"]);
  assert.match(await b.inState("closed"), /^Closed: the token is missing or has expired: make a new one, as shown here \(1\)$/);
  assert.deepEqual(await a.here(1), ["you"]);
  await a.notes(/^This channel keeps no history.*\(108\)$/);

  await a.set("channel", "other:1");
  await a.connect();
  assert.match(await a.inState("closed"), /^Closed: no such channel: its namespace.*\(102\)$/);
});

test("with --insecure no token is looked at, and what a namespace lacks is named", async (t) => {
  const k = await keys(t, { namespaces: [{ name: "bare" }] });
  const own = await Gateway.start("--token-hmac-secret-file", k.secret, "--namespaces", k.file, "--insecure");
  t.after(() => own.stop());
  const c = await Client.begin(t, browser, own.url, "bare:1", { token: "nonsense" });
  await c.opened();
  await c.says("#here-words", /^Presence is off for this channel: set "presence": true.*\(108\)$/);
  await c.notes(/^This channel keeps no history.*\(108\)$/);
  await c.send("passes");
  assert.deepEqual((await c.sees("passes")).map((r) => [r.offset, r.from]), [["#1", "you"]]);
  await c.page.click("#cut");
  await c.inState("offline");
  await own.publish("bare:1", "gone");
  await c.page.click("#cut");
  await c.notes(/^Back after [\d.]+ s\. This channel has no recovery/);
});
