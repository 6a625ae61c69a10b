// Makes elements. Nothing here, or in any other module, writes markup: texts become text nodes.

const SVG = "http://www.w3.org/2000/svg";

/** Paths of 24 × 24 pictures, drawn as lines. */
const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  attach: "M19 11.5l-7.2 7.2a4.6 4.6 0 0 1-6.5-6.5l7.6-7.6a3 3 0 0 1 4.3 4.3l-7.6 7.5a1.4 1.4 0 0 1-2-2l7-7",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  keys: "M3 7h18v11H3zM7 11h.01M11 11h.01M15 11h.01M17.5 11h.01M8 14.5h8",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  panel: "M5 20V10M12 20V4M19 20v-7",
  copy: "M9 9h10v11H9zM15 9V5H5v11h4",
  redo: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  fork: "M7 5v14M7 13c6 0 10-1 10-6M17 5v2M5 19h4M15 5h4",
  close: "M6 6l12 12M18 6L6 18",
  left: "M14 7l-5 5 5 5",
  right: "M10 7l5 5-5 5",
  file: "M7 4h7l4 4v12H7zM14 4v4h4",
  tool: "M14.5 6.5a4 4 0 0 0-5 5L4 17l3 3 5.500-5.500a4 4 0 0 0 5-5L15 12l-3-3z",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
};

/**
 * An element. `props`: `on…` are listeners, `class` and `text` what they say, `true` an empty attribute, `false`, `null` and
 * `undefined` none; all others are attributes. Children that are null or false are left out.
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A picture beside a label; it says nothing itself. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) {
    picture.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
}

/** A button that is a picture; `label` is its name and its tooltip. */
export function iconButton(name, label, onclick, props = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

/** The element of the page with this id. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

/** Says a text to those who hear the page instead of seeing it. */
export function announce(text) {
  const place = byId("announcer");
  place.textContent = "";
  // A text that is there twice is said once only: the change has to be seen.
  setTimeout(() => (place.textContent = text), 50);
}

/** Gives a file to the user. */
export function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
