// The types of sluice.js.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { subscribe } from "../page/sluice.js";

test("TypeScript accepts what is right, and refuses what is not", async () => {
  const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
  await promisify(execFile)("node_modules/.bin/tsc", [...flags, "sluice.types.ts"])
    .catch((err) => assert.fail(err.stdout));
});

test("the types declare what the module has, and nothing else", async () => {
  const text = await readFile(new URL("../page/sluice.d.ts", import.meta.url), "utf8");
  const [, body] = text.match(/^export interface Subscription \{\n(.*?)^\}/ms);
  const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)].map((m) => m[1]);
  const subscription = subscribe("http://127.0.0.1:1/sse/news");
  subscription.close();
  const has = Object.getOwnPropertyNames(Object.getPrototypeOf(subscription)).filter((name) => name !== "constructor");
  assert.deepEqual(declared.toSorted(), has.toSorted());
  assert.deepEqual(Object.keys(await import("../page/sluice.js")), ["subscribe"]);
});
