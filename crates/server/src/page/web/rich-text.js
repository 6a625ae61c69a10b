// A text that grows, shown as Markdown: only the segments that have changed are rendered anew.

import { announce, el, iconButton } from "./dom.js";
import { elementsOf } from "./markdown.js";
import { segments } from "./segments.js";

/** Characters of a text without markup that are laid out as one: the browser skips those that are not in sight. */
const CHUNK = 4000;

export class RichText {
  #shown = [];

  constructor() {
    this.element = el("div", { class: "rich" });
  }

  /** Shows a text, which mostly is the last one with more at its end. */
  show(text) {
    const wanted = segments(text);
    for (const [index, segment] of wanted.entries()) {
      const known = this.#shown[index];
      if (known?.kind === segment.kind && known.text === segment.text && known.language === segment.language) continue;
      if (known?.kind === segment.kind && known.update?.(segment)) {
        known.text = segment.text;
        continue;
      }
      const made = { ...segment, ...render(segment) };
      if (known) known.element.replaceWith(made.element);
      else this.element.append(made.element);
      this.#shown[index] = made;
    }
    for (const { element } of this.#shown.splice(wanted.length)) element.remove();
  }
}

function render(segment) {
  if (segment.kind === "code") return code(segment);
  if (segment.kind === "markdown") {
    const elements = elementsOf(segment.text);
    if (elements) {
      const element = el("div", { class: "segment" }, elements);
      // What is wider than the page scrolls by itself, also by keyboard.
      for (const wide of element.querySelectorAll("table, pre")) {
        const frame = el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": wide.tagName === "PRE" ? "Code" : "Table" });
        wide.replaceWith(frame);
        frame.append(wide);
      }
      return { element };
    }
  }
  const { element, update } = longText("div", segment.text);
  element.classList.add("plain");
  return { element, update: ({ text }) => update(text) };
}

function code({ text, language }) {
  const body = longText("code", text);
  const copy = iconButton("copy", "Copy the code", async () => {
    await navigator.clipboard.writeText(body.text());
    announce("Copied.");
  });
  const name = el("span", { text: language || "text" });
  const pre = el("pre", { class: "wide", tabindex: "0", role: "region", "aria-label": `Code, ${language || "text"}` }, body.element);
  const element = el("figure", { class: "code" }, el("figcaption", {}, name, copy), pre);
  return {
    element,
    update: (segment) => segment.language === language && body.update(segment.text),
  };
}

/** A text as it is, in chunks; `update` takes one that begins like it, and says whether it did. */
function longText(tag, text) {
  const element = el(tag);
  let shown = "";
  let lastStart = 0;
  const update = (next) => {
    if (!next.startsWith(shown)) return false;
    element.lastChild?.remove();
    for (let at = lastStart; at < next.length; ) {
      const end = chunkEnd(next, at);
      element.append(el("span", { class: "chunk", text: next.slice(at, end) }));
      lastStart = at;
      at = end;
    }
    shown = next;
    return true;
  };
  update(text);
  return { element, update, text: () => shown };
}

/** Where a chunk that begins at `at` ends: behind a line, if there is one; never within a character. */
function chunkEnd(text, at) {
  const end = at + CHUNK;
  if (end >= text.length) return text.length;
  const line = text.lastIndexOf("\n", end - 1);
  if (line > at) return line + 1;
  const isSplit = /[\uD800-\uDBFF]/.test(text[end - 1]);
  return isSplit ? end - 1 : end;
}
