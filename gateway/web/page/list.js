// The list of messages: the newest rows, at its end unless the reader scrolled up.
// What others sent becomes text, never markup.

import { milliseconds, timeOfDay } from "./words.js";

const rowsMax = 500;

export class List {
  constructor(scroller, rows, newest, empty) {
    this.scroller = scroller;
    this.rows = rows;
    this.newest = newest;
    this.empty = empty;
    this.waiting = []; // rows for the next frame, at most rowsMax
    this.atEnd = true;
    this.unseen = 0; // rows below, since the reader scrolled up
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(scroller);
    newest.addEventListener("click", () => {
      this.toEnd();
      scroller.focus({ preventScroll: true });
    });
  }

  // message adds a row; how, where it is given, is shown in place of the latency.
  message(m) {
    const row = document.createElement("li");
    if (m.from === "you") row.classList.add("own");
    row.append(
      cell("time", timeOfDay(m.at), new Date(m.at).toISOString()),
      cell("offset", m.offset === null ? "" : `#${m.offset}`),
      cell("latency", m.how ?? (m.caughtUp ? "caught up" : m.latency === null ? "" : milliseconds(m.latency))),
      cell("from", m.from, m.sender),
      cell(m.json ? "text json" : "text", m.text),
    );
    row.dataset.caughtUp = m.caughtUp;
    this.add(row);
  }

  // note adds a row of the page's own and returns it: its text may still change.
  note(text) {
    const row = document.createElement("li");
    row.className = "note";
    row.textContent = text;
    this.add(row);
    return row;
  }

  // hasRows counts those that wait for their frame, too: a hidden tab draws none.
  hasRows() {
    return this.waiting.length > 0 || this.rows.childElementCount > 0;
  }

  // add puts a row off to the next frame: a busy channel costs one layout a frame,
  // and a hidden tab nothing.
  add(row) {
    this.waiting.push(row);
    if (this.waiting.length > rowsMax) this.waiting.shift();
    this.frame ??= requestAnimationFrame(() => this.render());
  }

  render() {
    this.frame = null;
    this.empty.hidden = true;
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
