import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findings } from "./axe.mjs";
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

// Every pair of colours that carries words, by the state of the page in which it is seen.
const worded = {
  always: ["h1", ".hero p", ".top .link", "#version", "#chip-channel", "#chip-host", ".stream .tabs input + span", ".stream .tabs input:checked + span", "#state-words", "#cut",
    "#message", "#composer button", "#message-hint", ".numbers .value", ".numbers dt", ".numbers .words", "#code h2", "#languages input + span", "#languages input:checked + span",
    ".code button", "#snippet", "#snippet .c-string", "#snippet .c-word", "#snippet .c-comment", "footer p", "footer a"],
  busy: ["#rows .time", "#rows .offset", "#rows .latency", "#rows [data-how='caught up'] .latency", "#rows .from", "#rows .avatar", "#rows .own .from", "#rows .own .avatar", "#rows .text", "#rows .note",
    "#rows .json .c-key", "#rows .json .c-string", "#rows .json .c-number", "#rows .json .c-word", "#notice"],
  sdk: ["#rows [data-how=recovered] .latency", "#rows [data-how=history] .latency", "#here-words", "#here-rows .name", "#here-rows .own .name"],
  panel: ["#panel label", "#address", "#channel", "#connect", "#use-token"],
  keys: ["#keys-words", "#tokens", "#token-label", "#keys button", "#keys .primary"],
};

for (const [name, options] of Object.entries(views)) {
  test(`${name}: it fits its window, its words can be read, and it was photographed`, async (t) => {
    const tab = await Tab.open(browser, `${gateway.url}?channel=${name}`, options);
    t.after(() => tab.close());
    await tab.opened();
    const seen = async (state) => {
      const { content, window } = await tab.page.evaluate(() => ({ content: document.documentElement.scrollWidth, window: innerWidth }));
      assert.ok(content <= window, `${state}: the page is ${content} wide in a window of ${window}`);
      const selectors = [...worded.always, ...worded[state]];
      const ratios = await tab.page.evaluate(contrasts, selectors);
      for (const [selector, ratio] of ratios) assert.ok(ratio >= 4.5, `${state}: ${selector}: contrast ${ratio.toFixed(2)}`);
      assert.ok(ratios.length >= selectors.length - 8, `${state}: only ${ratios.length} pairs of ${selectors.length} were seen`);
      assert.deepEqual(await findings(tab.page), [], `${name}, ${state}`);
      const file = join(shots, `${name}-${state}.png`);
      await tab.page.screenshot({ path: file, fullPage: true });
      t.diagnostic(file);
    };

    await tab.page.waitForSelector("#numbers:visible");
    await gateway.publish(name, '{"match":"cup-final","minute":12,"live":true}');
    await tab.send("Hello from this tab");
    await gateway.publish(name, "And a good morning from a program: 你好，世界。これは少し長い文章です。");
    await gateway.publish(name, `long ${"word".repeat(60)}`);
    await tab.page.click("#cut");
    await gateway.publish(name, "This came while the connection was cut.");
    await tab.page.click("#cut");
    await tab.sees("This came while the connection was cut.");
    await tab.page.click("[data-copies=snippet]");
    await tab.page.waitForSelector("#notice:not(:empty)");
    await seen("busy");

    const other = await Tab.open(browser, `${gateway.url}?channel=${name}`);
    t.after(() => other.close());
    await other.mode("sdk");
    await tab.mode("sdk");
    await tab.opened();
    await tab.sees("Hello from this tab"); // the history
    await tab.page.click("#cut");
    await tab.inState("offline");
    await gateway.publish(name, "This came while the SDK was offline.");
    await tab.page.click("#cut");
    await tab.notes(/recovered: true/);
    await tab.says("#here-words", /^2 here$/);
    await seen("sdk");

    await tab.panel();
    await seen("panel");
    await tab.page.click("#use-token");
    await tab.page.waitForSelector("#keys:visible");
    await seen("keys");
  });

  test(`${name}: axe-core finds nothing in the tabs of SSE and Echo, nor where nothing has come`, async (t) => {
    const tab = await Tab.open(browser, `${gateway.url}?channel=quiet-${name}`, options);
    t.after(() => tab.close());
    await tab.opened();
    assert.deepEqual(await findings(tab.page), [], `${name}, empty`);
    for (const mode of ["sse", "echo"]) {
      await tab.mode(mode);
      await tab.says("#state[data-state=open] #state-words", mode === "sse" ? /quiet/ : /echo/);
      await tab.send("something");
      await tab.sees("something");
      assert.deepEqual(await findings(tab.page), [], `${name}, ${mode}`);
    }
  });
}

test("every sender's colour can be read, on both grounds", async (t) => {
  for (const colorScheme of ["light", "dark"]) {
    const tab = await Tab.open(browser, `${gateway.url}?channel=colours`, { colorScheme });
    t.after(() => tab.close());
    await tab.opened();
    await gateway.publish("colours", "one");
    await tab.sees("one");
    const hues = await tab.page.evaluate(async () => {
      const { hueOf } = await import("./senders.js");
      return [...new Set(Array.from({ length: 500 }, (_, i) => hueOf(String(i))))];
    });
    assert.ok(hues.length >= 8, `${hues.length} colours`);
    for (const hue of hues) {
      await tab.page.$eval("#rows li", (row, h) => row.style.setProperty("--hue", h), hue);
      for (const [selector, ratio] of await tab.page.evaluate(contrasts, ["#rows .from", "#rows .avatar"])) {
        assert.ok(ratio >= 4.5, `${colorScheme}, hue ${hue}: ${selector}: contrast ${ratio.toFixed(2)}`);
      }
    }
  }
});

// contrasts returns the contrast (WCAG 2) of the words in each visible element.
function contrasts(selectors) {
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = text;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
    return { r, g, b, a: a / 255 };
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
    if (!e.checkVisibility() || e.getBoundingClientRect().width < 2) return [];
    const [light, dark] = [luminance(rgba(getComputedStyle(e).color)), luminance(ground(e))].sort((a, b) => b - a);
    return [[selector, (light + 0.05) / (dark + 0.05)]];
  });
}
