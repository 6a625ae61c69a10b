// Dialogs: questions to the user that hold everything else.

import { el, iconButton } from "./dom.js";

/**
 * Opens a dialog. `fill(close)` makes its content, and calls `close(value)`; the promise has that value, or null where the user left it.
 */
export function openDialog(title, fill, { isWide = false } = {}) {
  return new Promise((resolve) => {
    let value = null;
    const close = (given) => {
      value = given ?? null;
      dialog.close();
    };
    const heading = el("h2", { id: "dialog-title", text: title });
    const head = el("div", { class: "dialog-head" }, heading, iconButton("close", "Close", () => close()));
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", class: isWide ? "wide-dialog" : null }, head, fill(close));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(value);
    });
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  });
}

/** Whether the user agrees to something that cannot be taken back. */
export async function confirmed(title, text, action) {
  const answer = await openDialog(title, (close) =>
    el(
      "div",
      {},
      el("p", { text }),
      el(
        "div",
        { class: "dialog-end" },
        el("button", { type: "button", class: "button quiet", text: "Cancel", onclick: () => close() }),
        el("button", { type: "button", class: "button danger", text: action, autofocus: true, onclick: () => close(true) }),
      ),
    ),
  );
  return answer === true;
}

/** A line of text from the user; null: none. `kind`: of the input. */
export function asked(title, { text = null, label, value = "", kind = "text", action }) {
  return openDialog(title, (close) => {
    const input = el("input", { id: "asked", type: kind, value, autofocus: true, required: true, autocomplete: "off" });
    return el(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          close(input.value.trim());
        },
      },
      text && el("p", { text }),
      el("label", { for: "asked", text: label }),
      input,
      el("div", { class: "dialog-end" }, el("button", { class: "button", text: action })),
    );
  });
}

/** Tells of something that went wrong. */
export function told(title, text) {
  return openDialog(title, (close) =>
    el("div", {}, el("p", { text }), el("div", { class: "dialog-end" }, el("button", { type: "button", class: "button", text: "Close", autofocus: true, onclick: () => close() }))),
  );
}
