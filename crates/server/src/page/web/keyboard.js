// Keys: what they do, and the dialog that says so.

import { openDialog } from "./dialogs.js";
import { el } from "./dom.js";

/** Whether a key would be a letter of a text. */
const isWriting = () => /^(?:INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");

/** Fixed by the boxes themselves. */
const IN_BOXES = [
  ["Enter", "send the message"],
  ["Shift + Enter", "a new line"],
];

/** `shortcuts`: `{key, code, alt, name, does}`; those with `alt` work everywhere, others where nothing is written. */
export function listen(shortcuts) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const found = shortcuts.find(({ alt, code, key, isEverywhere }) => {
      if (alt) return event.altKey && event.code === code;
      return !event.altKey && event.key === key && (isEverywhere || !isWriting());
    });
    if (!found) return;
    event.preventDefault();
    found.does();
  });
}

/** Says what keys do. */
export function showKeys(shortcuts) {
  const rows = [...IN_BOXES, ...shortcuts.map(({ alt, key, name }) => [alt ? `Alt + ${key}` : key, name])];
  return openDialog("Keyboard shortcuts", () =>
    el(
      "dl",
      { class: "keys" },
      rows.flatMap(([keys, name]) => [el("dt", {}, keys.split(" + ").flatMap((key, index) => (index ? [" + ", el("kbd", { text: key })] : [el("kbd", { text: key })]))), el("dd", { text: name })]),
    ),
  );
}
