import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

const shots = process.env.SHOTS || mkdtempSync(join(tmpdir(), "sluice-shots-"));
mkdirSync(shots, { recursive: true });

let browser, gateway;

before(async () => {
  browser = await launch();
  gateway = await Gateway.start();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

const views = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { viewport: { width: 320, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark" },
};

// Every pair of colours that carries words.
const worded = ["header p", "header a", "label", "legend", "#address", "#channel", ".choice input + span", ".choice input:checked + span", "#connect", "#state-words", "#cut",
  ".columns", "#rows .time", "#rows .offset", "#rows .latency", "#rows [data-caught-up=true] .latency", "#rows .from", "#rows .own .from", "#rows .text", "#rows .note",
  "#message", "#composer button", "#message-hint", ".code h2", ".code button", "#javascript", "#curl", "#notice",
  ".lead h2", ".lead p", ".lead a", "#token-hint", "#client-connect", "#client-state-words", "#offline", "#client-rows .offset", "#client-rows [data-caught-up=true] .latency",
  "#client-rows .own .from", "#client-rows .json", "#client-rows .note", "#client-composer button", "#here-title", "#here-again", "#here-words", "#here-rows .own .name", "#here-rows .id",
  "#kept", "#kept-words", "#kept-rows .id", "#kept-rows .text", "#api-curl", "#tokens"];

for (const [name, options] of Object.entries(views)) {
  test(`${name}: it fits its window, its words can be read, and it was photographed`, async (t) => {
    const tab = await Tab.open(browser, `${gateway.url}?channel=${name}`, options);
    t.after(() => tab.close());
    await tab.opened();
    await tab.send("Hello from this tab");
    await gateway.publish(name, "And a good morning from a program: 你好，世界。これは少し長い文章です。");
    await gateway.publish(name, `long ${"word".repeat(60)}`);
    await tab.page.click("#cut");
    await gateway.publish(name, "This came while the connection was cut.");
    await tab.page.click("#cut");
    await tab.sees("This came while the connection was cut.");
    await visitClient(tab, name);
    await tab.page.click("[data-copies=curl]");
    await tab.page.waitForSelector("#notice:not(:empty)");

    const { content, window } = await tab.page.evaluate(() => ({ content: document.documentElement.scrollWidth, window: innerWidth }));
    assert.ok(content <= window, `the page is ${content} wide in a window of ${window}`);
    const ratios = await tab.page.evaluate(contrasts, worded);
    for (const [selector, ratio] of ratios) assert.ok(ratio >= 4.5, `${selector}: contrast ${ratio.toFixed(2)}`);
    assert.ok(ratios.length >= 44, `${ratios.length} pairs of colours were seen`);
    await tab.page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
    t.diagnostic(join(shots, `${name}.png`));
  });
}

// visitClient lets the second part show each kind of thing that it has.
async function visitClient(tab, channel) {
  const { page } = tab;
  await page.click("#client-connect");
  await page.waitForSelector("#client-state[data-state=open]");
  await page.fill("#client-message", '{"text":"an object","list":[1,2,3]}');
  await page.press("#client-message", "Enter");
  await page.waitForSelector("#client-rows .own .json");
  await page.click("#offline");
  await page.waitForSelector("#client-state[data-state=offline]");
  await gateway.publish(channel, "This came while the library was offline.");
  await gateway.publish(channel, `long ${"word".repeat(60)}`);
  await page.click("#offline");
  await page.waitForSelector("#client-rows [data-caught-up=true]");
  await page.waitForSelector("#here-rows .own");
  await page.click("#kept");
  await page.waitForSelector("#kept-rows li");
}

// contrasts returns the contrast (WCAG 2) of the words in each visible element.
function contrasts(selectors) {
  const rgba = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c.a === 1) return c;
      if (c.a !== 0) throw new Error(`half a background on ${e.outerHTML.slice(0, 80)}`);
    }
    throw new Error("no background");
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  return selectors.flatMap((selector) => {
    const e = document.querySelector(selector);
    if (!e) throw new Error(`nothing matches ${selector}`);
    if (!e.checkVisibility()) return [];
    const [light, dark] = [luminance(rgba(getComputedStyle(e).color)), luminance(ground(e))].sort((a, b) => b - a);
    return [[selector, (light + 0.05) / (dark + 0.05)]];
  });
}

test("it is used with the keyboard alone, and the focus is always seen", async (t) => {
  const tab = await Tab.open(browser, `${gateway.url}?channel=keys`);
  t.after(() => tab.close());
  await tab.opened();
  const { keyboard } = tab.page;
  const focus = () => tab.page.evaluate(() => {
    const e = document.activeElement;
    const ring = getComputedStyle(e.type === "radio" ? e.nextElementSibling : e);
    const copies = e.dataset.copies && `Copy ${e.dataset.copies}`;
    return [e.id || copies || e.getAttribute("href") || e.getAttribute("aria-labelledby") || e.value || e.textContent.trim(), ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2];
  });
  const order = [];
  for (let i = 0; i < 27; i++) {
    await keyboard.press("Tab");
    const [name, visible] = await focus();
    assert.ok(visible, `the focus on ${name} is not seen`);
    order.push(name);
  }
  assert.deepEqual(order, ["#message", "#client", "address", "channel", "chat", "connect", "cut", "log", "message", "Send",
    "Copy javascript", "javascript-title", "Copy curl", "curl-title",
    "centrifuge.txt", "client-channel", "client-token", "client-channel-token", "client-connect", "client-log", "client-message", "Publish",
    "here-rows", "kept-rows", "Copy api-curl", "api-curl-title", "Copy tokens"]);

  await tab.page.focus(".skip");
  await keyboard.press("Enter");
  assert.equal((await focus())[0], "message");
  await keyboard.type("typed");
  await keyboard.press("Shift+Enter");
  await keyboard.type("two lines");
  await keyboard.press("Enter");
  await tab.sees("typed\ntwo lines");
  await tab.page.focus("input[value=chat]");
  await keyboard.press("ArrowRight");
  await tab.page.waitForFunction(() => document.querySelector("#state-words").textContent === "Connected to echo");
  await keyboard.press("Tab");
  await keyboard.press("Space");
  assert.equal(await tab.inState("closed"), "Disconnected");
});

test("the second part is used with the keyboard alone", async (t) => {
  const tab = await Tab.open(browser, `${gateway.url}?channel=more-keys`);
  t.after(() => tab.close());
  const { keyboard } = tab.page;
  const focused = () => tab.page.evaluate(() => document.activeElement.id);
  const state = (name) => tab.page.waitForSelector(`#client-state[data-state=${name}]`);
  await tab.page.focus("#client-channel");
  await keyboard.press("Enter");
  await state("open");
  await tab.page.focus("#client-connect");
  await keyboard.press("Tab");
  assert.equal(await focused(), "offline");
  await keyboard.press("Enter");
  await state("offline");
  assert.equal(await focused(), "offline", "the button that brings it back is where the focus is");
  await keyboard.press("Space");
  await state("open");
  await keyboard.press("Tab"); // the log
  await keyboard.press("Tab");
  assert.equal(await focused(), "client-message");
  await keyboard.type("typed");
  await keyboard.press("Enter");
  await tab.page.waitForSelector("#client-rows .own");
  await tab.page.focus("#here-rows");
  await keyboard.press("Tab");
  assert.equal(await focused(), "kept");
  await keyboard.press("Enter");
  await tab.page.waitForSelector("#kept-rows li");
  await tab.page.focus("#client-channel");
  await keyboard.press("Enter");
  await tab.page.focus("#client-connect");
  assert.equal(await tab.page.textContent("#client-state-words"), "Connected to more-keys", "Enter in a field does not disconnect");
  await keyboard.press("Enter");
  await state("closed");
});

test("a screen reader finds names, a log and a state that speaks", async (t) => {
  const tab = await Tab.open(browser, `${gateway.url}?channel=aloud`);
  t.after(() => tab.close());
  await tab.opened();
  const cdp = await tab.context.newCDPSession(tab.page);
  const { nodes } = await cdp.send("Accessibility.getFullAXTree");
  const named = nodes.filter((n) => !n.ignored).map((n) => [n.role?.value, n.name?.value ?? ""]);
  for (const [role, name] of named) {
    if (["textbox", "button", "radio", "radiogroup", "log", "group", "form", "region"].includes(role)) assert.ok(name, `a ${role} without a name`);
  }
  for (const wanted of [["textbox", "Address"], ["textbox", "Channel"], ["textbox", "Message"], ["group", "Mode"], ["radio", "Chat"], ["radio", "Echo"],
    ["button", "Disconnect"], ["button", "Cut connection"], ["button", "Send"], ["button", "Copy the JavaScript"], ["button", "Copy the curl command"], ["log", "Messages"], ["heading", "sluice"],
    ["heading", "With Centrifugo's SDK"], ["textbox", "Connection token (optional)"], ["textbox", "Subscription token (optional)"], ["textbox", "Message to publish"], ["button", "Publish"],
    ["log", "SDK messages"], ["list", "Who is here"], ["list", "History"], ["button", "Copy the API command"], ["button", "Copy the token commands"]]) {
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
});
