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
      const refused = /WebSocket connection to|Failed to load resource/.test(m.text());
      if (m.type() === "error" && !refused) t.faults.push(m.text());
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
  notes(pattern) { return this.says("#rows .note", pattern); }

  rows() {
    return this.page.$$eval("#rows li", (rows) => rows.map((row) => {
      if (row.classList.contains("note")) return { note: row.textContent };
      const cell = (name) => row.querySelector(`.${name}`).textContent;
      return { offset: cell("offset"), latency: cell("latency"), from: cell("from"), text: cell("text") };
    }));
  }

  // said returns the rows that are messages.
  async said() { return (await this.rows()).filter((r) => r.note === undefined); }

  async texts() {
    return (await this.said()).map((r) => r.text);
  }

  // panel opens what is behind the chip.
  async panel() {
    if (!await this.page.isVisible("#panel")) await this.page.click("#chip");
  }

  // set fills in a field of the panel.
  async set(field, value) {
    await this.panel();
    await this.page.fill(`#${field}`, value);
  }

  // tokens fills in the fields for tokens.
  async tokens(token, channelToken) {
    if (!await this.page.isVisible("#keys")) {
      await this.panel();
      await this.page.click("#use-token");
    }
    await this.page.fill("#token", token);
    if (channelToken !== undefined) await this.page.fill("#channel-token", channelToken);
  }

  // connect presses the button that begins or ends the connection.
  async connect() {
    await this.panel();
    await this.page.click("#connect");
  }

  // mode chooses a tab: ws, sse, sdk or echo.
  mode(name) { return this.page.check(`input[name=mode][value=${name}]`); }

  // says waits until an element's text matches, and returns it.
  async says(selector, pattern) {
    const handle = await this.page.waitForFunction(
      ([s, source, flags]) => [...document.querySelectorAll(s)].map((e) => e.textContent).find((t) => new RegExp(source, flags).test(t)),
      [selector, pattern.source, pattern.flags]);
    return handle.jsonValue();
  }

  close() { return this.context.close(); }
}
