// The list of who is here, and the list of what was kept. What others gave as their
// names becomes text, never markup.

const shownMax = 100;

export class Here {
  constructor(words, rows) {
    this.words = words;
    this.rows = rows;
  }

  // show lists the connections of a map by id; name returns what to call one.
  show(present, name) {
    this.rows.replaceChildren(...[...present.values()].slice(0, shownMax).map((info) => entry(name(info), info)));
    const more = present.size - shownMax;
    this.say(`${present.size === 1 ? "1 connection" : `${present.size} connections`}${more > 0 ? `, showing ${shownMax}` : ""}`);
  }

  // say shows, in place of the number, why there is none.
  say(words) {
    if (this.words.textContent !== words) this.words.textContent = words; // else it would be read out again
  }

  clear(words) {
    this.rows.replaceChildren();
    this.say(words);
  }
}

function entry(name, { client, user, connInfo, chanInfo }) {
  const row = document.createElement("li");
  const id = client.slice(0, 8);
  row.append(span("name", name));
  if (name !== id) row.append(span("id", id));
  row.classList.toggle("own", name === "you");
  const told = [user && `user ${user}`, ...[connInfo, chanInfo].filter((i) => i !== undefined).map((i) => JSON.stringify(i))].filter(Boolean);
  if (told.length) row.append(span("info", told.join(", ")));
  row.title = client;
  return row;
}

// keptRow is one message of the history.
export function keptRow({ offset, from, text, json }) {
  const row = document.createElement("li");
  row.append(span("id", offset === null ? "" : `#${offset}`), span(json ? "text json" : "text", text));
  row.title = from;
  return row;
}

function span(name, text) {
  const e = document.createElement("span");
  e.className = name;
  e.textContent = text;
  return e;
}
