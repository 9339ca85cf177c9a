// The second part of the page, as a person sees it.

import { Tab } from "./browser.mjs";

// Client is a tab in which the second part is used.
export class Client {
  static async open(t, browser, url, channel, fields = {}) {
    const c = new Client();
    c.tab = await Tab.open(browser, `${url}?channel=${encodeURIComponent(channel)}`);
    t.after(() => c.tab.close());
    c.page = c.tab.page;
    for (const [name, value] of Object.entries(fields)) await c.page.fill(`#client-${name}`, value);
    await c.page.click("#client-connect");
    return c;
  }

  async inState(state) {
    await this.page.waitForSelector(`#client-state[data-state="${state}"]`);
    return this.words();
  }

  words() { return this.page.textContent("#client-state-words"); }

  async opened() {
    await this.inState("open");
    return this;
  }

  async publish(text) {
    await this.page.fill("#client-message", text);
    await this.page.press("#client-message", "Enter");
  }

  // sees waits for a row with exactly this text and returns all rows that are not notes.
  async sees(text) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll("#client-rows .text")].some((e) => e.textContent === wanted), text);
    return this.page.$$eval("#client-rows li:not(.note)", (rows) => rows.map((row) => {
      const cell = (name) => row.querySelector(`.${name}`).textContent;
      return { offset: cell("offset"), how: cell("latency"), from: cell("from"), text: cell("text") };
    }));
  }

  // says waits until an element's text matches, and returns it.
  async says(selector, pattern) {
    const handle = await this.page.waitForFunction(
      ([s, source]) => [...document.querySelectorAll(s)].map((e) => e.textContent).find((t) => new RegExp(source).test(t)),
      [selector, pattern.source]);
    return handle.jsonValue();
  }

  notes(pattern) { return this.says("#client-rows .note", pattern); }

  // here waits until so many are here, and returns their names.
  async here(n) {
    await this.says("#here-words", new RegExp(`^${n} connections?$`));
    return this.page.$$eval("#here-rows .name", (names) => names.map((e) => e.textContent).sort());
  }
}
