// What a gateway shows to a browser on its own machine: numbers, and visitors to bring. Everybody
// else gets a 404, and a page without both.

import { Numbers } from "./numbers.js";
import { Visitors } from "./visitors.js";

const $ = (id) => document.getElementById(id);
const every = 1_000; // ms
const loopback = /^(localhost|127\..*|\[::1\])$/;

// startDemo asks for the numbers as long as somebody looks. channel and token return what the page
// is connected to; publish sends a text there, and reports whether that is allowed.
export async function startDemo(page) {
  if (!loopback.test(location.hostname)) return;
  const numbers = new Numbers($("numbers"));
  const visitors = new Visitors(page);
  let shown = false;
  for (;;) {
    await seen();
    const now = await ask();
    if (now === null) { // not for us
      numbers.element.hidden = true;
      return;
    }
    if (now) {
      numbers.add(now);
      if (!shown) {
        numbers.element.hidden = false;
        $("version").textContent = now.version;
        visitors.show(now.visitors);
        shown = true;
      }
    }
    numbers.element.classList.toggle("stale", !now);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

// ask returns the numbers, null where there are none, and undefined while the gateway is away.
async function ask() {
  try {
    const response = await fetch("demo/numbers", { cache: "no-store" });
    if (response.ok) return await response.json();
    return response.status === 404 ? null : undefined;
  } catch {
    return undefined;
  }
}

function seen() {
  if (document.visibilityState === "visible") return null;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}
