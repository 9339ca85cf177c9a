// The page: fields, buttons and words around a stream and a list.

import { channelURL, defaultAddress, parseAddress, parseChannel } from "./address.js";
import { composes } from "./composer.js";
import { List } from "./list.js";
import { notice } from "./notice.js";
import { curlFor, javascriptFor } from "./snippets.js";
import { Stream } from "./stream.js";
import { capital, closeWords, messages, notAllowed, notReached, notReachedAgain, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const configured = document.documentElement.dataset;
const list = new List($("log"), $("rows"), $("newest"), $("empty"));

let stream = null;
let backRow = null; // the row that says what the last return has brought
let counting = 0; // the interval of the count-down
let above = ""; // the target that the rows came from
let used = ""; // what the fields held when the stream began

const told = {
  state: showState,
  message: (m) => list.message(m),
  greeting: (text) => list.note(`Greeting: ${text}`),
  back(report) {
    if (!backRow || (report.caughtUp === 0 && !report.gap)) backRow = list.note("");
    backRow.classList.toggle("lost", report.gap);
    backRow.textContent = backWords(report);
  },
};

// backWords says what a return has brought. lost is between which offsets messages are gone,
// null when that is not known.
function backWords({ away, caughtUp, gap, lost, resumes }) {
  const back = `Back after ${seconds(away)}`;
  const came = `caught up on ${messages(caughtUp)}`;
  if (gap) {
    const gone = lost ? `messages after #${lost.after} and up to #${lost.upTo} lost, no longer in the history`
      : "messages may be lost, because the channel's history started over";
    return `${back}: ${gone}${caughtUp ? `; ${came}` : ""}`;
  }
  if (!resumes) return back;
  return `${back}: ${caughtUp ? `${came}, none lost` : "nothing was missed"}`;
}

// --- connection

function connect() {
  stream?.close();
  let address, channel;
  try {
    address = parseAddress($("address").value);
    channel = parseChannel($("channel").value);
  } catch (err) {
    stream = null;
    showClosed(err.message);
    return;
  }
  const echo = mode() === "echo";
  remember(channel);
  used = typed();
  stream = new Stream({ address, channel, echo }, told);
  stream.open();
}

const mode = () => document.querySelector("input[name=mode]:checked").value;
const typed = () => JSON.stringify([$("address").value, $("channel").value, mode()]);

// connects reports what the button does: it ends the connection that the fields
// describe, or begins it.
const connects = () => !stream || stream.state === "closed" || used !== typed();

// remember puts the channel into the page's address, to be reloaded or passed on.
function remember(channel) {
  const url = new URL(location);
  if (channel === "lobby") url.searchParams.delete("channel");
  else url.searchParams.set("channel", channel);
  if (url.href !== location.href) history.replaceState(null, "", url);
}

// --- state in words

function showState(s) {
  clearInterval(counting);
  $("countdown").textContent = "";
  switch (s.state) {
    case "connecting":
      show("connecting", `Connecting to ${s.address.host}…`);
      break;
    case "open":
      divide(s);
      show("open", `Connected to ${nameOf(s)}${s.listenOnly ? " (subscribe only)" : ""}`);
      break;
    case "waiting":
      if (s.closed.opened) list.note(capital(lossWords(s)));
      if (s.refused !== "" && $("message").value === "") $("message").value = s.refused;
      show("waiting", `${capital(lossWords(s))}. Reconnecting`);
      countDown(s);
      break;
    case "closed":
      showClosed(s.closed ? lossWords(s) : "disconnected");
  }
}

const nameOf = (s) => (s.echo ? "echo" : s.channel);

// divide keeps rows of different targets apart: their offsets have nothing to do with
// each other. It waits for the connection to open, as one that fails brings no rows.
function divide(s) {
  const target = s.target();
  if (target !== above && list.hasRows()) list.note(`Switched to ${nameOf(s)}`);
  above = target;
}

function showClosed(words) {
  show("closed", capital(words));
}

function show(state, words) {
  $("state").dataset.state = state;
  $("state-words").textContent = words;
  showButton();
  $("cut").textContent = state === "waiting" ? "Reconnect now" : "Cut connection";
  $("cut").hidden = state !== "open" && state !== "waiting";
}

function showButton() {
  $("connect").textContent = connects() ? "Connect" : "Disconnect";
  $("connect").classList.toggle("primary", connects());
}

function lossWords({ address, state, closed: { code, reason, opened } }) {
  if (code === 0) return opened ? "you cut the connection" : `can't connect: ${reason}`;
  if (opened) return `connection closed (${code}): ${closeWords(code, reason)}`;
  return state === "waiting" ? notReachedAgain : notReached(address.host === location.host);
}

// countDown shows the seconds outside the live region: read out each second, they
// would drown everything else.
function countDown(s) {
  const tick = () => {
    const left = Math.max(0, s.retryAt - performance.now());
    $("countdown").textContent = ` in ${Math.ceil(left / 1000)} s`;
  };
  tick();
  counting = setInterval(tick, 250);
}

// --- sending

function send() {
  const field = $("message");
  if (field.value === "") return;
  if (stream?.listenOnly && stream.state === "open") {
    list.note(`Not sent: ${closeWords(1008, notAllowed)}`);
    return;
  }
  if (!stream?.send(field.value)) {
    notice("Not connected. Your message is still in the box.");
    return;
  }
  field.value = "";
  list.toEnd();
}

// --- what to copy

function showSnippets() {
  try {
    const channel = parseChannel($("channel").value);
    $("javascript").textContent = javascriptFor(channelURL(parseAddress($("address").value), channel));
    $("curl").textContent = curlFor(configured.publishUrl, channel);
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
showSnippets();

$("connection").addEventListener("submit", (event) => {
  event.preventDefault();
  if (connects()) connect();
  else stream.close();
});
$("connection").addEventListener("keydown", (event) => { // Enter in a field never disconnects
  if (event.key === "Enter" && event.target.matches("input") && !connects()) event.preventDefault();
});
$("connection").addEventListener("input", (event) => {
  showSnippets();
  if (event.target.name === "mode" && stream && stream.state !== "closed") connect();
  showButton();
});
$("cut").addEventListener("click", () => (stream.state === "waiting" ? stream.hurry() : stream.cut()));
composes($("composer"), $("message"), send);
document.querySelectorAll("[data-copies]").forEach((b) => b.addEventListener("click", () => copy(b)));

addEventListener("online", () => stream?.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") stream?.hurry();
});
addEventListener("pageshow", (event) => { // back from the cache of pages
  if (event.persisted) stream?.hurry();
});

connect();
