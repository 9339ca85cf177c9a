// Making and changing elements. Strings become text, never markup: the names and payloads on this
// page are written by clients.

export const byId = (id) => document.getElementById(id);

// el makes an element. An attribute that is false, null or undefined is left out; one that begins
// with "on" is a listener.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

// write sets an element's text, if it is another: so that a selection in it survives.
export function write(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// fill makes the children of an element those of a list of items, in its order. An item that was
// there before keeps its element, and with it the focus. make returns an element, update changes it.
export function fill(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((e) => [e.dataset.key, e]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let e = before.get(key);
    if (!e) {
      e = make(item);
      e.dataset.key = key;
    }
    before.delete(key);
    update(e, item);
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
  }
  for (const e of before.values()) e.remove();
}

// confirm asks before something is done that cannot be undone.
export function confirm(title, text, yes) {
  const dialog = byId("confirm");
  write(byId("confirm-title"), title);
  write(byId("confirm-text"), text);
  write(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// channelLink is a channel's name that leads to the inspector.
export function channelLink(name) {
  return el("a", { href: `#/channels/${encodeURIComponent(name)}`, class: "name", title: name }, name);
}
