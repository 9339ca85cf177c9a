// The page as it is used: with the keyboard alone, with a screen reader, on a phone, without motion.

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

test("on a phone the message field is in view, with messages and without", async (t) => {
  for (const gone of [false, true]) { // without the strip, too
    const own = gone ? await Gateway.start("--demo", "off") : gateway;
    if (gone) t.after(() => own.stop());
    const tab = await Tab.open(browser, `${own.url}?channel=field`, { viewport: { width: 375, height: 667 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    t.after(() => tab.close());
    await tab.opened();
    if (!gone) await tab.page.waitForSelector("#numbers:visible");
    const inView = async () => {
      const { top, bottom, right } = await tab.page.$eval("#message", (e) => e.getBoundingClientRect().toJSON());
      const scrolled = await tab.page.evaluate(() => scrollY);
      assert.ok(scrolled === 0 && top > 0 && bottom <= 667 && right <= 375, `from ${top} to ${bottom}, scrolled ${scrolled}`);
    };
    await inView();
    for (let i = 0; i < 30; i++) await own.publish("field", `message ${i}`);
    await tab.sees("message 29");
    await inView();
    await tab.mode("sdk");
    await tab.says("#here-words", /^1 here$/);
    await inView();
  }
});

test("it is used with the keyboard alone, and the focus is always seen", async (t) => {
  const tab = await Tab.open(browser, `${gateway.url}?channel=keys`);
  t.after(() => tab.close());
  await tab.opened();
  await tab.page.waitForSelector("#numbers:visible");
  const { keyboard } = tab.page;
  const focus = () => tab.page.evaluate(() => {
    const e = document.activeElement;
    const ring = getComputedStyle(e.type === "radio" ? e.nextElementSibling : e);
    const copies = e.dataset.copies && `Copy ${e.dataset.copies}`;
    return [e.id || copies || e.getAttribute("href") || e.value || e.getAttribute("aria-labelledby") || e.textContent.trim(), ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2];
  });
  const walk = async (n) => {
    const order = [];
    for (let i = 0; i < n; i++) {
      await keyboard.press("Tab");
      const [name, visible] = await focus();
      assert.ok(visible, `the focus on ${name} is not seen`);
      order.push(name);
    }
    return order;
  };
  const order = ["#message", "#code", "api-link", "operator-link", "chip", "ws", "cut", "log", "message", "Send",
    "bring", "javascript", "Copy snippet", "code-title", "centrifuge.txt"];
  assert.deepEqual(await walk(order.length), order);

  await tab.page.focus(".skip");
  await keyboard.press("Enter");
  assert.equal((await focus())[0], "message");
  await keyboard.type("typed");
  await keyboard.press("Shift+Enter");
  await keyboard.type("two lines");
  await keyboard.press("Enter");
  await tab.sees("typed\ntwo lines");

  await tab.page.focus("#chip");
  await keyboard.press("Enter");
  await tab.page.waitForSelector("#panel:visible");
  assert.equal(await tab.page.getAttribute("#chip", "aria-expanded"), "true");
  assert.deepEqual(await walk(4), ["address", "channel", "connect", "use-token"]);
  await keyboard.press("Enter");
  assert.equal((await focus())[0], "token");
  await tab.page.focus("#chip");
  await keyboard.press("Enter");
  await tab.page.focus("#channel");
  await keyboard.press("Escape");
  await tab.page.waitForSelector("#panel", { state: "hidden" });
  assert.equal((await focus())[0], "chip");

  await tab.page.focus("input[value=ws]");
  await keyboard.press("ArrowRight");
  await keyboard.press("ArrowRight");
  await tab.says("#state[data-state=open] #state-words", /^Connected to keys$/);
  await keyboard.press("Tab");
  assert.equal((await focus())[0], "cut");
  await keyboard.press("Enter");
  await tab.inState("offline");
  assert.equal((await focus())[0], "cut", "the button that brings it back is where the focus is");
  await keyboard.press("Space");
  await tab.inState("open");
  await tab.page.focus("input[value=sdk]");
  await keyboard.press("ArrowRight");
  await tab.says("#state-words", /^Connected to echo$/);
  await tab.page.focus("#chip");
  await keyboard.press("Enter");
  await tab.page.focus("#connect");
  await keyboard.press("Space");
  assert.equal(await tab.inState("closed"), "Disconnected");
});

test("visitors are brought and sent home with the keyboard alone", async (t) => {
  const tab = await Tab.open(browser, gateway.url);
  t.after(() => tab.close());
  await tab.page.waitForSelector("#bring:visible");
  const focus = () => tab.page.evaluate(() => document.activeElement.id);
  await tab.page.focus("#bring");
  await tab.page.keyboard.press("Enter");
  await tab.page.waitForSelector("#visitors[data-state=open]");
  assert.equal(await focus(), "send-home", "the focus stays with the visitors");
  await tab.page.keyboard.press("Shift+Tab");
  assert.equal(await focus(), "cut-visitors");
  await tab.page.keyboard.press("Shift+Tab");
  assert.equal(await focus(), "ticking");
  await tab.page.keyboard.press("Space");
  await tab.says("#rows .ticks", /^× \d+$/);
  await tab.page.focus("#send-home");
  await tab.page.keyboard.press("Enter");
  await tab.page.waitForSelector("#bring:visible");
  assert.equal(await focus(), "bring");
});

test("a screen reader finds names, a log and a state that speaks", async (t) => {
  const tab = await Tab.open(browser, `${gateway.url}?channel=aloud`);
  t.after(() => tab.close());
  await tab.opened();
  await tab.page.waitForSelector("#numbers:visible");
  await tab.panel();
  const cdp = await tab.context.newCDPSession(tab.page);
  const { nodes } = await cdp.send("Accessibility.getFullAXTree");
  const named = nodes.filter((n) => !n.ignored).map((n) => [n.role?.value, n.name?.value ?? ""]);
  for (const [role, name] of named) {
    if (["textbox", "button", "radio", "radiogroup", "log", "group", "form", "region", "switch", "image"].includes(role)) assert.ok(name, `a ${role} without a name`);
  }
  for (const wanted of [["textbox", "Address"], ["textbox", "Channel"], ["textbox", "Message"], ["group", "Protocol"], ["radio", "WebSocket"], ["radio", "SSE"], ["radio", "SDK"], ["radio", "Echo"],
    ["button", "Disconnect"], ["button", "Cut connection"], ["button", "Send"], ["button", "Copy the code"], ["log", "Messages"], ["heading", "Send once. Reach everyone."],
    ["group", "Language"], ["region", "This gateway now"], ["region", "Visitors"], ["button", "Bring 1,000 visitors"], ["navigation", "Links"], ["form", "Connection"]]) {
    assert.ok(named.some(([role, name]) => role === wanted[0] && name === wanted[1]), `no ${wanted.join(" ")}`);
  }
  assert.equal(await tab.page.getAttribute("#state-words", "aria-live"), "polite");
  assert.equal(await tab.page.$$eval("[aria-live] #countdown", (e) => e.length), 0, "the count-down is not read out each second");
  assert.equal(await tab.page.getAttribute("html", "lang"), "en");
  assert.equal(await tab.page.title(), "sluice");
});

test("a reader who wants less motion gets none", async (t) => {
  const tab = await Tab.open(browser, gateway.url, { reducedMotion: "reduce" });
  t.after(() => tab.close());
  await tab.opened();
  await tab.page.click("#cut");
  await tab.inState("waiting");
  assert.equal(await tab.page.$eval(".dot", (e) => getComputedStyle(e).animationName), "none");

  const painting = await tab.page.evaluate(async () => { // the field of dots lights up, and stays as it is
    const { Field } = await import("./field.js");
    const field = new Field(document.getElementById("dots"), 1000);
    field.measure();
    field.setOpen(new Uint8Array(125).fill(255));
    field.flash(new Uint8Array(125).fill(255));
    for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
    return field.frame;
  });
  assert.equal(painting, null, "nothing is painted again");
});
