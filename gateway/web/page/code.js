// The code to copy, a tab for each language.

import { colour } from "./highlight.js";
import { snippetsFor } from "./snippets.js";

const $ = (id) => document.getElementById(id);
const tabs = $("languages");
let snippets = [];

// showSnippets shows the code for { address, channel, publishURL }.
export function showSnippets(where) {
  snippets = snippetsFor(where);
  if (!tabs.querySelector("input")) tabs.append(...snippets.map(tab));
  show();
}

function tab({ id, name }, i) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const span = document.createElement("span");
  Object.assign(input, { type: "radio", name: "language", value: id, checked: i === 0 });
  input.addEventListener("change", show);
  span.textContent = name;
  label.append(input, span);
  return label;
}

function show() {
  const chosen = tabs.querySelector("input:checked").value;
  const { code, language, words } = snippets.find(({ id }) => id === chosen);
  $("snippet-words").textContent = words;
  if ($("snippet").textContent !== code) $("snippet").replaceChildren(...colour(code, language));
}
