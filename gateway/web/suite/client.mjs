// The page's tab of the SDK, as a person sees it.

import { Tab } from "./browser.mjs";

// Client is a tab in which the SDK's is chosen.
export class Client extends Tab {
  // begin opens one. fields: { token, channelToken }, which are typed in before.
  static async begin(t, browser, url, channel, { token = "", channelToken = "" } = {}) {
    const c = Object.assign(new Client(), await Tab.open(browser, `${url}?channel=${encodeURIComponent(channel)}`));
    t.after(() => c.close());
    if (token) await c.tokens(token);
    await c.mode("sdk");
    if (channelToken) {
      await c.tokens(token, channelToken);
      await c.page.click("#keys .primary");
    }
    return c;
  }

  // sees waits for a row with exactly this text and returns all rows that are messages.
  async sees(text) {
    await super.sees(text);
    return this.said();
  }

  // here waits until so many are here, and returns their names.
  async here(n) {
    await this.says("#here-words", new RegExp(`^${n} here$`));
    return this.page.$$eval("#here-rows .name", (names) => names.map((e) => e.textContent).sort());
  }
}
