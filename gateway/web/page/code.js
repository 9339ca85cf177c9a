// The code to copy, a tab for each language.

import { channelURL } from "./address.js";
import { colour } from "./highlight.js";
import { curlFor, curlForAPI, javascriptFor } from "./snippets.js";

const $ = (id) => document.getElementById(id);
const tabs = $("languages");
let snippets = [];

// showSnippets shows the code for an address and a channel.
export function showSnippets({ address, channel, publishURL }) {
  const url = new URL(channelURL(address, channel));
  url.searchParams.set("format", "json");
  snippets = [
    { id: "javascript", name: "JavaScript", language: "js", code: javascriptFor(url.href) },
    { id: "curl", name: "curl", language: "sh", code: curlFor(publishURL, channel) },
    { id: "api-curl", name: "API", language: "sh", code: curlForAPI(publishURL, channel) },
  ];
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
  const { code, language } = snippets.find(({ id }) => id === chosen);
  if ($("snippet").textContent !== code) $("snippet").replaceChildren(...colour(code, language));
}
