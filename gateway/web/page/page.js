// The page: fields, buttons and rows around one connection to the gateway, over the protocol that
// the tabs choose.
//
// A connection is a Plain, SDK or Echo. It reports to the functions of told: state(connection,
// words, until), joined(connection) when it is open for the first time, message(m) as a List shows
// it, note(words), back(words, lost), again whenever what a return has brought grows,
// giveBack(text) that was not sent, keys() when a token is needed, here(present, own), hereWords(words).

import { defaultAddress, parseAddress, parseChannel } from "./address.js";
import { composes } from "./composer.js";
import { startDemo } from "./demo.js";
import { Echo } from "./echo.js";
import { Here } from "./here.js";
import { List } from "./list.js";
import { notice } from "./notice.js";
import { Plain } from "./plain.js";
import { SDK } from "./sdk.js";
import { showSnippets } from "./code.js";
import { tokensFor } from "./snippets.js";
import { capital } from "./words.js";

const $ = (id) => document.getElementById(id);
const configured = document.documentElement.dataset;
const list = new List($("log"), $("rows"), $("newest"), $("empty"));
const here = new Here($("here"), $("here-words"), $("here-rows"));
const fields = ["address", "channel", "token", "channel-token"];

let connection = null;
let above = null; // the connection that the rows came from
let used = ""; // what the fields held when the connection began
let counting = 0; // the interval of the count-down
let typing = false; // a token: the fields were asked for, and not sent yet

// --- connection

function connect() {
  const from = connection ?? above;
  connection?.close();
  connection = null;
  let address, channel;
  try {
    address = parseAddress($("address").value);
    channel = parseChannel($("channel").value);
  } catch (err) {
    show("closed", capital(err.message));
    return;
  }
  remember(channel);
  used = typed();
  const settings = { address, channel, token: $("token").value.trim(), channelToken: $("channel-token").value.trim() };
  connection = begin(settings);
  if (from?.position && from === above && from.target === connection.target) connection.since = from.position;
  here.hide();
  showTarget();
  connection.open();
}

function begin(settings) {
  const told = toldOf(() => connection === begun);
  const kinds = {
    ws: () => new Plain(settings, told),
    sse: () => new Plain({ ...settings, sse: true }, told),
    sdk: () => new SDK(settings, told),
    echo: () => new Echo(settings, told),
  };
  const begun = kinds[mode()]();
  return begun;
}

// toldOf lets only the present connection speak.
function toldOf(isPresent) {
  let backRow = null; // the row that says what the last return has brought
  const told = {
    state({ state }, words, until) {
      if (state !== "open") backRow = null;
      show(state, words, until);
    },
    joined,
    message: (m) => list.message(m),
    note: (words, kind) => kind ? list.note(words).classList.add(kind) : list.note(words),
    back(words, lost) {
      backRow ??= list.note("");
      backRow.classList.add("back");
      backRow.classList.toggle("lost", lost);
      backRow.textContent = words;
    },
    giveBack: (text) => { if ($("message").value === "") $("message").value = text; },
    keys: () => showKeys(true),
    here: (present, own) => here.show(present, own),
    hereWords: (words) => (words ? here.explain(words) : here.hide()),
  };
  return Object.fromEntries(Object.entries(told).map(([name, f]) => [name, (...args) => isPresent() && f(...args)]));
}

// joined keeps rows of different targets apart: their offsets have nothing to do with each other.
// It waits for the connection to open, as one that fails brings no rows.
function joined(c) {
  if (above && (c.target !== above.target || !c.since)) list.clear();
  above = c;
  showKeys(typing);
}

const mode = () => document.querySelector("input[name=mode]:checked").value;
const typed = () => JSON.stringify([mode(), ...fields.map((id) => $(id).value)]);

// connects reports what the button does: it ends the connection that the fields describe, or
// begins one.
const connects = () => !connection || connection.state === "closed" || used !== typed();

// remember puts the channel into the page's address, to be reloaded or passed on.
function remember(channel) {
  const url = new URL(location);
  if (channel === "lobby") url.searchParams.delete("channel");
  else url.searchParams.set("channel", channel);
  if (url.href !== location.href) history.replaceState(null, "", url);
}

// --- state in words

function show(state, words, until) {
  clearInterval(counting);
  $("countdown").textContent = "";
  $("state").dataset.state = $("chip").dataset.state = state;
  if ($("state-words").textContent !== words) $("state-words").textContent = words; // else it would be read out again
  const action = connection?.action ?? "";
  $("cut").textContent = action;
  $("cut").hidden = !action;
  showButton();
  if (until) countDown(until);
}

// countDown shows the seconds outside the live region: read out each second, they
// would drown everything else.
function countDown(until) {
  const tick = () => ($("countdown").textContent = ` in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`);
  tick();
  counting = setInterval(tick, 250);
}

function showButton() {
  $("connect").textContent = connects() ? "Connect" : "Disconnect";
  $("connect").classList.toggle("primary", connects());
}

function showTarget() {
  const echo = mode() === "echo";
  $("chip-channel").textContent = echo ? "echo" : connection.channel;
  $("chip-host").textContent = connection.address.host;
  $("message-hint").textContent = hints[mode()];
  document.documentElement.dataset.mode = mode();
}

const hints = {
  ws: "Enter sends, Shift+Enter starts a new line.",
  sse: "SSE only receives. What you send goes over a WebSocket beside it.",
  sdk: "A JSON object or array is published as it is, anything else as a string.",
  echo: "Each message comes back to you alone, with its round-trip time.",
};

// showKeys shows or hides the fields for tokens.
function showKeys(wanted) {
  $("keys").hidden = !wanted;
  $("use-token").setAttribute("aria-expanded", wanted);
  const sdk = mode() === "sdk";
  $("channel-token-field").hidden = !sdk;
  $("token-label").textContent = sdk ? "Connection token" : "Token";
  $("keys-words").textContent = sdk ? "Make tokens with the gateway's key, one for the connection and one for this channel:"
    : "Make a token with the gateway's key. The first is for channels open to users (allow_subscribe_for_client), the second is for this channel:";
}

// --- sending

function send() {
  const field = $("message");
  const text = field.value;
  if (text === "") return;
  field.value = "";
  if (connection?.send(text)) {
    list.toEnd();
  } else {
    field.value = text;
    notice("Not connected. Your message is still in the box.");
  }
}

// --- what to copy

// showCode lets the code follow the fields.
function showCode() {
  try {
    const channel = parseChannel($("channel").value);
    $("tokens").textContent = tokensFor(channel);
    showSnippets({ address: parseAddress($("address").value), channel, publishURL: configured.publishUrl });
  } catch {
    // Half typed: the code stays as it is until the fields are valid again.
  }
}

async function copy(button) {
  const code = $(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // not a secure context, or not allowed
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) {
      notice("The browser blocked copying. The code is selected: copy it with the keyboard.");
      return;
    }
  }
  notice("Copied.");
}

// --- begin

$("address").value = defaultAddress(location, configured.address);
$("channel").value = new URLSearchParams(location.search).get("channel") || "lobby";
if (configured.publishUrl) {
  for (const [id, path] of [["operator-link", "/"], ["api-link", "/api/openapi.json"]]) {
    $(id).href = new URL(path, configured.publishUrl);
    $(id).hidden = false;
  }
}
showCode();

$("panel").addEventListener("toggle", (event) => $("chip").setAttribute("aria-expanded", event.newState === "open"));
$("panel").addEventListener("submit", (event) => {
  event.preventDefault();
  if (connects()) {
    connect();
    if (connection) $("panel").hidePopover();
  } else {
    connection.close();
  }
});
$("panel").addEventListener("keydown", (event) => { // Enter in a field never disconnects
  if (event.key === "Enter" && event.target.matches("input") && !connects()) event.preventDefault();
});
for (const form of ["panel", "keys"]) {
  $(form).addEventListener("input", () => {
    showCode();
    showButton();
  });
}
$("keys").addEventListener("submit", (event) => {
  event.preventDefault();
  typing = false;
  connect();
});
$("use-token").addEventListener("click", () => {
  $("panel").hidePopover();
  typing = true;
  showKeys(true);
  $("token").focus();
});
document.querySelectorAll("input[name=mode]").forEach((tab) => tab.addEventListener("change", () => {
  showKeys(typing);
  connect();
}));
$("cut").addEventListener("click", () => connection.act());
composes($("composer"), $("message"), send);
document.querySelectorAll("[data-copies]").forEach((b) => b.addEventListener("click", () => copy(b)));

addEventListener("online", () => connection?.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") connection?.hurry();
});
addEventListener("pageshow", (event) => { // back from the cache of pages
  if (event.persisted) connection?.hurry();
});

connect();
startDemo({
  channel: () => connection?.channel ?? "lobby",
  token: () => $("token").value.trim(),
  publish(text) {
    if (mode() === "echo" || connection?.listenOnly) return false;
    connection?.send(text); // not while it is lost
    return true;
  },
});
