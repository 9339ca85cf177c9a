// The line of who is here. What others gave as their names becomes text, never markup.

import { hueOf, nameOf } from "./senders.js";

const shownMax = 50;

export class Here {
  constructor(place, words, rows) {
    this.place = place;
    this.words = words;
    this.rows = rows;
  }

  // show lists the connections of a map by id; own reports whether one is this tab's.
  show(present, own) {
    this.place.hidden = false;
    const infos = [...present.values()].sort((a, b) => own(b) - own(a));
    this.rows.replaceChildren(...infos.slice(0, shownMax).map((info) => entry(info, own(info))));
    const more = present.size - shownMax;
    this.say(`${present.size} here${more > 0 ? `, showing ${shownMax}` : ""}`);
  }

  // explain shows, in place of the number, why there is none.
  explain(words) {
    this.place.hidden = false;
    this.rows.replaceChildren();
    this.say(words);
  }

  hide() {
    this.rows.replaceChildren();
    this.place.hidden = true;
    this.words.textContent = "";
  }

  say(words) {
    if (this.words.textContent !== words) this.words.textContent = words; // else it would be read out again
  }
}

function entry({ client, user, connInfo, chanInfo }, own) {
  const row = document.createElement("li");
  const name = own ? "you" : user || nameOf(client);
  row.className = own ? "own" : "";
  row.style.setProperty("--hue", hueOf(client));
  row.title = user ? `${user}, ${client}` : client;
  row.append(span("name", name));
  const info = [own && user, ...[connInfo, chanInfo].filter((i) => i !== undefined).map((i) => JSON.stringify(i))].filter(Boolean);
  if (info.length) row.append(span("info", info.join(", ")));
  return row;
}

function span(name, text) {
  const e = document.createElement("span");
  e.className = name;
  e.textContent = text;
  return e;
}
