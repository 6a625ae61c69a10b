// Text files of the user: read, checked, counted.

import { countText } from "./api.js";
import { bytes } from "./format.js";

/** Bytes of a file that is read: what a request may have, with room for the rest of it. */
const MOST_BYTES = 32 << 20;

/** A file's text, its size, and how many tokens it has; fails with what is wrong with it. */
export async function readDocument(file, signal) {
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name} has ${bytes(file.size)}, but a document may have ${bytes(MOST_BYTES)}`);
  }
  if (!file.size) throw new Error(`${file.name} is empty`);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is no text in UTF-8: convert it to plain text`);
  }
  if (text.includes("\0")) throw new Error(`${file.name} has zero bytes, so it is no text: convert it to plain text`);
  text = text.replace(/\r\n?/g, "\n");
  return { name: file.name, size: file.size, text, tokens: await countText(text, signal) };
}

/** Calls `take` with the files that are dropped anywhere on the page, and shows where they go. */
export function onDrop(veil, take) {
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = (is) => (veil.hidden = !is);
  document.addEventListener("dragenter", (event) => hasFiles(event) && show(++depth > 0));
  document.addEventListener("dragleave", (event) => hasFiles(event) && show(--depth > 0));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    // Otherwise the browser leaves the page and opens the file.
    event.preventDefault();
    depth = 0;
    show(false);
    take([...event.dataTransfer.files]);
  });
}
