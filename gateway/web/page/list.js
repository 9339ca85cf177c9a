// The list of messages: the newest rows, at its end unless the reader scrolled up.
// What others sent becomes text, never markup.

import { colour, isJSON } from "./highlight.js";
import { hueOf, nameOf } from "./senders.js";
import { milliseconds, timeOfDay } from "./words.js";

const rowsMax = 500;

export class List {
  constructor(scroller, rows, newest, empty) {
    this.scroller = scroller;
    this.rows = rows;
    this.newest = newest;
    this.empty = empty;
    this.waiting = []; // rows for the next frame, at most rowsMax
    this.last = null; // the last row: { row, sender, tick }
    this.atEnd = true;
    this.unseen = 0; // rows below, since the reader scrolled up
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(scroller);
    newest.addEventListener("click", () => {
      this.toEnd();
      scroller.focus({ preventScroll: true });
    });
  }

  // message adds a row for { at, offset, latency, how, from, sender, own, text, tick }: at and offset may
  // be null; how, where it is given, is shown in place of the latency, from in place of a name made of the sender's id. A
  // tick takes the place of the same sender's tick before it, and counts it.
  message(m) {
    const sender = m.own ? "you" : m.sender || m.from;
    const ticks = m.tick && this.last?.sender === sender && this.last.how === m.how ? this.last.ticks + 1 : 1;
    const row = document.createElement("li");
    row.classList.toggle("own", Boolean(m.own));
    row.classList.toggle("goes-on", this.last?.sender === sender);
    row.style.setProperty("--hue", hueOf(sender));
    row.dataset.how = m.how ?? "live";
    const name = m.own ? "you" : m.from || nameOf(m.sender);
    const avatar = cell("avatar", [...name][0].toUpperCase());
    avatar.ariaHidden = "true";
    const json = isJSON(m.text);
    const text = cell(json ? "text json" : "text", json ? "" : m.text);
    if (json) text.append(...colour(m.text, "json"));
    row.append(
      avatar,
      cell("from", name, m.sender),
      text,
      cell("latency", m.how ?? (m.latency === null ? "" : milliseconds(m.latency))),
      cell("offset", m.offset === null ? "" : `#${m.offset}`),
      cell("time", ...(m.at === null ? [""] : [timeOfDay(m.at), new Date(m.at).toISOString()])),
    );
    if (ticks > 1) {
      row.append(cell("ticks", `× ${ticks}`));
      row.classList.toggle("goes-on", this.last.row.classList.contains("goes-on"));
      this.replace(this.last.row, row);
    } else {
      this.add(row);
    }
    this.last = { row, sender, how: m.how, ticks: m.tick ? ticks : 0 };
  }

  // note adds a row of the page's own and returns it: its text may still change.
  note(text) {
    const row = document.createElement("li");
    row.className = "note";
    row.textContent = text;
    this.last = null;
    this.add(row);
    return row;
  }

  // clear takes all rows away: those that come belong to something else.
  clear() {
    this.waiting.length = 0;
    this.rows.replaceChildren();
    this.last = null;
    this.empty.hidden = false;
    this.toEnd();
  }

  // add puts a row off to the next frame: a busy channel costs one layout a frame,
  // and a hidden tab nothing.
  add(row) {
    this.waiting.push(row);
    if (this.waiting.length > rowsMax) this.waiting.shift();
    this.frame ??= requestAnimationFrame(() => this.render());
  }

  replace(old, row) {
    const i = this.waiting.lastIndexOf(old);
    if (i < 0) old.replaceWith(row);
    else this.waiting[i] = row;
  }

  render() {
    this.frame = null;
    this.empty.hidden = this.waiting.length + this.rows.childElementCount > 0;
    this.rows.append(...this.waiting);
    this.unseen += this.waiting.length;
    this.waiting.length = 0;
    while (this.rows.childElementCount > rowsMax) this.rows.firstElementChild.remove();
    if (this.atEnd) this.toEnd();
    this.showNewest();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.atEnd = true;
    this.showNewest();
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.atEnd = scrollHeight - scrollTop - clientHeight < 24;
    this.showNewest();
  }

  showNewest() {
    if (this.atEnd) this.unseen = 0;
    this.newest.hidden = this.atEnd;
    this.newest.textContent = this.unseen ? `Jump to latest (${this.unseen})` : "Jump to latest";
  }
}

function cell(name, text, title) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  if (title) span.title = title;
  return span;
}
