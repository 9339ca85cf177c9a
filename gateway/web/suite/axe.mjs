// What axe-core finds wrong with a page, for people who cannot see it, or not well.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const source = readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// findings returns what axe-core finds: each with the rule and the elements. What it cannot decide
// by itself is not one.
export async function findings(page) {
  await page.evaluate(await source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations", "passes"] }));
  if (passes.length < 10) throw new Error(`axe-core has looked at little: ${passes.length} rules have passed`);
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")} (${n.any.concat(n.all, n.none).map((c) => c.message).join("; ")})`).join(", ")}`);
}
