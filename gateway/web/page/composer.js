// The field that messages are written in.

// composes lets the form and the Enter key send.
export function composes(form, field, send) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
    field.focus();
  });
  field.addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    send();
  });
}

// Enter sends, but not the one that picks a character in an input method. Some
// browsers end the composition before that key: 229 tells it.
function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}
