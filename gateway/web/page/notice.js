// Words that need no place on the page for long.

const place = document.getElementById("notice");
let noticed = 0; // the time-out

export function notice(words) {
  clearTimeout(noticed);
  place.textContent = words;
  noticed = setTimeout(() => (place.textContent = ""), 4000);
}
