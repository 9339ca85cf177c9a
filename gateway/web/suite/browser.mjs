// A browser, and the page in it as a person sees it.

import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

// launch starts Debian's Chromium. Without a sandbox: it has none for root, as CI is.
// Every name below .test is this machine, so that there can be foreign origins.
export function launch() {
  const executablePath = process.env.CHROMIUM || execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP *.test 127.0.0.1"] });
}

// Tab is one tab with the page in it, in a profile of its own. Whatever goes wrong
// in the page is kept in faults.
export class Tab {
  static async open(browser, url, options = {}) {
    const t = new Tab();
    t.context = await browser.newContext({ locale: "en-GB", viewport: { width: 1280, height: 900 }, ...options });
    t.context.setDefaultTimeout(60_000);
    t.page = await t.context.newPage();
    t.faults = [];
    t.page.on("pageerror", (err) => t.faults.push(err.message));
    t.page.on("console", (m) => {
      // What a browser itself says about a refused connection is expected in some tests.
      if (m.type() === "error" && !/WebSocket connection to/.test(m.text())) t.faults.push(m.text());
    });
    t.page.on("dialog", (d) => { t.faults.push(`dialog: ${d.message()}`); d.dismiss(); });
    await t.page.goto(url);
    return t;
  }

  // opened waits until the page says that it is connected.
  async opened() {
    await this.inState("open");
    return this;
  }

  async inState(state) {
    await this.page.waitForSelector(`#state[data-state="${state}"]`);
    return this.words();
  }

  words() { return this.page.textContent("#state-words"); }

  async send(text) {
    await this.page.fill("#message", text);
    await this.page.press("#message", "Enter");
  }

  // sees waits for a row with exactly this text and returns all rows.
  async sees(text) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll("#rows .text, #rows .note")].some((e) => e.textContent === wanted), text);
    return this.rows();
  }

  // notes waits for a row of the page's own that matches.
  async notes(pattern) {
    const handle = await this.page.waitForFunction(
      ([source, flags]) => [...document.querySelectorAll("#rows .note")].map((e) => e.textContent).find((t) => new RegExp(source, flags).test(t)),
      [pattern.source, pattern.flags]);
    return handle.jsonValue();
  }

  rows() {
    return this.page.$$eval("#rows li", (rows) => rows.map((row) => {
      if (row.classList.contains("note")) return { note: row.textContent };
      const cell = (name) => row.querySelector(`.${name}`).textContent;
      return { offset: cell("offset"), latency: cell("latency"), from: cell("from"), text: cell("text") };
    }));
  }

  async texts() {
    return (await this.rows()).filter((r) => r.note === undefined).map((r) => r.text);
  }

  async set(field, value) { await this.page.fill(`#${field}`, value); }

  close() { return this.context.close(); }
}
