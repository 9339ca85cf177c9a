// The second part of the page: fields, buttons and words around a session of Centrifugo's
// protocol. The address is that of the first part.

import { clientURL, parseAddress, parseChannel } from "./address.js";
import { answerWords, endWords, lossWords } from "./codes.js";
import { composes } from "./composer.js";
import { Here, keptRow } from "./here.js";
import { List } from "./list.js";
import { notice } from "./notice.js";
import { Session } from "./session.js";
import { curlForAPI, tokensFor } from "./snippets.js";
import { capital, messages, notReachedAgain, notReachedBySDK, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const configured = document.documentElement.dataset;
const list = new List($("client-log"), $("client-rows"), $("client-newest"), $("client-empty"));
const here = new Here($("here-words"), $("here-rows"));
const fields = ["client-channel", "client-token", "client-channel-token"];
const keptShown = 10;

let session = null;
let backRow = null; // the row that says what the last return has brought
let above = ""; // where the rows came from
let used = ""; // what the fields held when the session began
let attempts = 0; // to connect

// --- connection

async function connect() {
  session?.close();
  session = null;
  const attempt = ++attempts;
  let url, channel;
  try {
    channel = parseChannel($("client-channel").value);
    url = clientURL(parseAddress($("address").value));
  } catch (err) {
    show("closed", err.message);
    return;
  }
  const token = $("client-token").value.trim();
  const channelToken = $("client-channel-token").value.trim();
  used = typed();
  show("connecting", "Loading the SDK…");
  try {
    await import("./centrifuge.js"); // which leaves its class behind as a global
  } catch (err) {
    show("closed", `The SDK could not be loaded: ${err.message}`);
    return;
  }
  if (attempt !== attempts) return; // there was another click in the meantime
  const begun = new Session(globalThis.Centrifuge, { url, channel, token, channelToken }, toldOf(() => session === begun));
  session = begun;
  session.url = url;
  session.open();
}

// toldOf lets only the present session speak.
function toldOf(isPresent) {
  const told = {
    state: showState,
    message: ({ data, ...m }) => list.message({ ...m, ...worded(data), how: m.caughtUp ? "recovered" : "live" }),
    lost: (trouble) => list.note(capital(lossWords(trouble))),
    back(report) {
      if (!report.caughtUp.length) backRow = list.note("");
      backRow.classList.toggle("lost", !report.recovered);
      backRow.textContent = backWords(report);
    },
    here: (present) => session.state === "open" && here.show(present, (info) => session.nameOf(info)),
    hereFault: (error) => here.clear(capital(answerWords("presence", error))),
  };
  return Object.fromEntries(Object.entries(told).map(([name, f]) => [name, (...args) => isPresent() && f(...args)]));
}

// worded returns a payload as text, and whether that is JSON.
function worded(data) {
  return typeof data === "string" ? { text: data, json: false } : { text: JSON.stringify(data), json: true };
}

// backWords says what the SDK found when it reconnected.
function backWords({ away, recoverable, wasRecovering, recovered, caughtUp, anew, missed }) {
  const time = `Back after ${seconds(away)}`;
  if (!recoverable || !wasRecovering) return `${time}. This channel has no recovery: this tab missed any messages published in the meantime`;
  if (recovered) {
    if (!caughtUp.length) return `${time}, recovered: true. Nothing was missed`;
    const which = caughtUp.length === 1 ? `#${caughtUp[0]}` : `#${caughtUp[0]} to #${caughtUp.at(-1)}`;
    return `${time}, recovered: true. Caught up on ${messages(caughtUp.length)}, ${which}`;
  }
  if (anew) return `${time}, recovered: false. The channel's history started over, so messages may be lost`;
  return `${time}, recovered: false. The messages after #${missed.after} and up to #${missed.upTo} were missed, and not all of them are still in the history`;
}

const typed = () => JSON.stringify([$("address").value, ...fields.map((id) => $(id).value)]);

// connects reports what the button does: it ends the session that the fields describe, or
// begins one.
const connects = () => !session || session.state === "closed" || used !== typed();

// --- state in words

function showState(s) {
  switch (s.state) {
    case "connecting":
      connectingWords(s);
      break;
    case "open":
      divide(s);
      show("open", `Connected to ${s.channel}`);
      break;
    case "offline":
      list.note("Offline. Now publish something: in the chat above, in another tab, or with the curl command below.");
      show("offline", "You went offline");
      break;
    case "closed":
      show("closed", closedWords(s.ended));
      if (s.ended && s.lostAt) list.note($("client-state-words").textContent);
  }
  if (s.state !== "open") here.clear(s.state === "closed" ? "Connect to see who is here." : "Not available while disconnected.");
}

function connectingWords(s) {
  const host = new URL(s.url).host;
  if (!s.trouble) return show("connecting", `Connecting to ${host}…`);
  const unreached = s.lostAt ? notReachedAgain : notReachedBySDK(host === location.host);
  show("connecting", `${capital(s.trouble.code === 2 ? unreached : lossWords(s.trouble))}. Retrying…`);
}

function closedWords(ended) {
  if (!ended) return "Disconnected";
  if (ended.code < 100 || ended.code >= 1000) return `Closed: ${endWords(ended)}`;
  return `Closed: ${answerWords("subscribe", { code: ended.code, message: ended.reason })}`;
}

// divide keeps rows of different channels apart.
function divide(s) {
  const target = `${s.url} ${s.channel}`;
  if (target !== above && list.hasRows()) list.note(`Switched to ${s.channel}`);
  above = target;
}

function show(state, words) {
  $("client-state").dataset.state = state;
  if ($("client-state-words").textContent !== words) $("client-state-words").textContent = words;
  $("offline").textContent = state === "offline" ? "Go online" : "Go offline";
  $("offline").hidden = state !== "open" && state !== "offline";
  $("kept").disabled = $("here-again").disabled = state !== "open";
  showButton();
}

function showButton() {
  $("client-connect").textContent = connects() ? "Connect" : "Disconnect";
  $("client-connect").classList.toggle("primary", connects());
}

// --- what is asked of the gateway

async function publish() {
  const field = $("client-message");
  const text = field.value;
  if (text === "") return;
  if (session?.state !== "open") {
    notice("Not connected. Your message is still in the box.");
    return;
  }
  field.value = "";
  list.toEnd();
  try {
    await session.publish(payload(text));
  } catch (err) {
    list.note(`Not published: ${answerWords("publish", err)}`);
    if (field.value === "") field.value = text;
  }
}

// payload is what to publish for a text: an object or array of JSON as it is, anything
// else as a string.
function payload(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Not JSON.
  }
  return text;
}

async function showKept() {
  const rows = $("kept-rows");
  try {
    const kept = await session.history(keptShown);
    rows.replaceChildren(...kept.map(({ data, ...m }) => keptRow({ ...m, ...worded(data) })));
    $("kept-words").textContent = kept.length ? `${messages(kept.length)}, newest first` : "The history is empty.";
  } catch (err) {
    rows.replaceChildren();
    $("kept-words").textContent = capital(answerWords("history", err));
  }
}

// --- what to copy

function showSnippets() {
  try {
    const channel = parseChannel($("client-channel").value);
    $("api-curl").textContent = curlForAPI(configured.publishUrl, channel);
    $("tokens").textContent = tokensFor(channel);
  } catch {
    // Half typed: the code stays as it is until the fields are valid again.
  }
}

// --- begin

$("client-channel").value = new URLSearchParams(location.search).get("channel") || "lobby";
showSnippets();
show("closed", "Not connected");

$("client-connection").addEventListener("submit", (event) => {
  event.preventDefault();
  if (connects()) connect();
  else session.close();
});
$("client-connection").addEventListener("keydown", (event) => { // Enter in a field never disconnects
  if (event.key === "Enter" && event.target.matches("input") && !connects()) event.preventDefault();
});
$("client-connection").addEventListener("input", () => {
  showSnippets();
  showButton();
});
$("address").addEventListener("input", showButton);
$("offline").addEventListener("click", () => (session.state === "offline" ? session.comeBack() : session.goOffline()));
$("here-again").addEventListener("click", () => session.ask());
$("kept").addEventListener("click", showKept);
composes($("client-composer"), $("client-message"), publish);
