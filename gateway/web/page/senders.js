// What to call a sender of which only an id is known, and in which colour. Pure: the same id has
// the same name and colour in every tab and after every reload.

const tempers = ["Quiet", "Swift", "Bright", "Calm", "Bold", "Gentle", "Keen", "Merry", "Lucky", "Proud", "Shy", "Sunny",
  "Witty", "Brave", "Clever", "Early", "Fancy", "Grand", "Happy", "Jolly", "Kind", "Lively", "Mellow", "Nimble",
  "Patient", "Quick", "Rapid", "Silver", "Tidy", "Vivid", "Warm", "Young"];
const animals = ["Heron", "Otter", "Beaver", "Salmon", "Kingfisher", "Newt", "Swan", "Pike", "Dipper", "Mallard", "Trout", "Crane",
  "Stork", "Frog", "Loon", "Eel", "Teal", "Osprey", "Perch", "Snipe", "Egret", "Vole", "Grebe", "Carp",
  "Wagtail", "Minnow", "Coot", "Turtle", "Curlew", "Mink", "Plover", "Dragonfly"];
const hues = [18, 48, 78, 108, 138, 168, 255, 280, 305, 330]; // none near the accent, which is for one's own

// nameOf returns a name for an id, one of 1,024.
export function nameOf(id) {
  const n = hash(id);
  return `${tempers[n & 31]} ${animals[(n >>> 5) & 31]}`;
}

// hueOf returns the hue, in degrees of OKLCH, of an id or a user's name.
export function hueOf(id) {
  return hues[(hash(id) >>> 10) % hues.length];
}

// hash is 32-bit FNV-1a with a final mix: ids differ in their last digits only.
function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
