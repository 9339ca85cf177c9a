// The operator's page: it asks its gateway every two seconds, while somebody looks, and shows the
// answers in views. A view has a title, a path behind "#/", an element, and three methods: show is
// called with each sample of the metrics, refresh asks for what else the view needs, and open, if
// there is one, is called with the rest of the address.

import * as api from "./api.js";
import { byId, el, write } from "./dom.js";
import { History, step } from "./history.js";
import { Metrics } from "./metrics.js";
import { Overview } from "./overview.js";
import { Channels } from "./channels.js";
import { Connections } from "./connections.js";
import { Namespaces } from "./namespaces.js";
import { Nodes } from "./nodes.js";
import * as units from "./units.js";

const keyed = document.documentElement.dataset.key === "true";
const history = new History();
const views = [new Overview(), new Channels(), new Connections(), new Namespaces(), new Nodes()];
let view = null; // the one that is shown
let metrics = null; // of the last answer
let loggedIn = true; // until the gateway says otherwise
let failures = 0;
let timer = 0;
let round = 0; // only the newest goes on

// --- asking

function start() {
  clearTimeout(timer);
  timer = 0;
  const mine = ++round;
  const turn = async () => {
    if (document.hidden || !loggedIn) return;
    const begun = performance.now();
    try {
      await ask(mine);
      failures = 0;
    } catch (fault) {
      failures++;
      if (loggedIn) lost(fault);
    }
    if (mine !== round || document.hidden || !loggedIn) return;
    const wait = step * 1000 * Math.min(1 + failures, 5) - (performance.now() - begun);
    timer = setTimeout(turn, Math.max(wait, 250));
  };
  turn();
}

async function ask(mine) {
  const [text, readiness] = await Promise.all([api.metrics(), api.readiness()]);
  if (mine !== round) return; // somebody has looked away and back meanwhile
  metrics = new Metrics(text);
  const now = Date.now() / 1000;
  history.add(metrics, now);
  enter();
  tell(readiness, now);
  view.show(history, now, metrics);
  await view.refresh();
}

// tell says in the head how the gateway is.
function tell({ ready, text }, now) {
  state(ready ? "ready" : "unready", ready ? "Ready" : text.replace(/^./, (c) => c.toUpperCase()));
  const { version = "", commit = "" } = metrics.labels("sluice_build_info");
  const up = now - (history.last.started ?? now);
  write(byId("about"), [location.host, version === "(devel)" ? commit.replace("unknown", "").slice(0, 7) : version, `up ${units.age(up)}`].filter(Boolean).join(" · "));
  byId("banner").hidden = true;
  drain();
}

// drain shows how far a shutdown has come, or that an upgrade is under way. It is no live region: the state is one, and
// says the same once.
function drain() {
  const total = metrics.sum("sluice_drain_connections"), open = metrics.sum("sluice_connections"), bar = byId("drain-bar");
  const draining = metrics.sum("sluice_draining") > 0;
  if ((byId("drain").hidden = !draining && !metrics.sum("sluice_upgrading"))) return;
  bar.hidden = !draining || !total;
  if (total) [bar.max, bar.value] = [total, Math.max(total - open, 0)];
  write(byId("drain-words"), !draining ? "Upgrading: a new process is about to take over. Clients are served as before."
    : total ? `Shutting down: ${units.count(open)} of ${units.count(total)} connections left, ${units.count(metrics.sum("sluice_closing_connections"))} closing.`
    : "Shutting down: clients are still accepted, until load balancers have noticed.");
}

function state(name, words) {
  byId("state").dataset.state = name;
  byId("app").toggleAttribute("data-stale", name === "lost");
  write(byId("state-words"), words);
}

function lost(fault) {
  enter();
  state("lost", "No answer");
  const since = history.last ? ` What you see is from ${units.clock(history.last.at)}.` : "";
  const why = fault.status ? `The gateway refuses: ${fault.message}.` : "The gateway does not answer.";
  write(byId("banner"), `${why}${since} Trying again.`);
  byId("banner").hidden = false;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) start();
});

// --- logging in and out

// enter shows the views.
function enter() {
  byId("login").hidden = true;
  byId("app").hidden = false;
  byId("logout-form").hidden = !keyed;
  if (!view) route();
}

api.onLoggedOut(() => {
  if (!loggedIn) return;
  loggedIn = false;
  history.forget();
  byId("app").hidden = true;
  byId("login").hidden = false;
  document.title = "Log in · sluice operator";
  byId("key").focus();
});

byId("login-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const button = e.target.querySelector("button");
  button.disabled = true;
  write(byId("login-fault"), "");
  try {
    await api.login(byId("key").value.trim());
    byId("key").value = "";
    loggedIn = true;
    if (view) title();
    start();
  } catch (fault) {
    write(byId("login-fault"), fault.status ? `${fault.message.replace(/^./, (c) => c.toUpperCase())}.` : "The gateway does not answer.");
    byId("key").select();
  }
  button.disabled = false;
});

byId("logout-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  await api.logout().catch(lost);
  start(); // and be refused
});

// --- views

for (const v of views) byId("nav").append(el("a", { href: `#/${v.path}` }, v.title));

function title() { document.title = `${view.title} · sluice operator`; }

function route() {
  if (view && location.hash && !location.hash.startsWith("#/")) return; // a place on the page
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const next = views.find((v) => v.path === path) ?? views[0];
  next.open?.(decoded(rest.join("/")));
  if (next !== view) {
    view = next;
    byId("main").replaceChildren(view.element);
    [...byId("nav").children].forEach((a, i) => (views[i] === view ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current")));
    title();
    byId("nav").querySelector("[aria-current]").scrollIntoView({ inline: "nearest", block: "nearest" });
    scrollTo(0, 0);
    if (history.last) view.show(history, Date.now() / 1000, metrics);
  }
  if (history.last) view.refresh().catch(() => {}); // the next turn says what is wrong
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // somebody typed a lone %
  }
}

addEventListener("hashchange", () => { if (!byId("app").hidden) route(); });
start();
