// Markdown as elements. `marked` makes markup of it, `dompurify` makes elements of that, and only of what is allowed.
//
// A model's words are a stranger's. So there are no pictures from elsewhere, which would tell that they were seen; no names and ids, which scripts
// would find; no styles, forms or frames. The policy of the page forbids all of that too: this is the first wall, not the only one.

import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br strong b em i u s del code pre blockquote ul ol li hr table thead tbody tr th td a sup sub kbd".split(" "),
    ..."h3 h4 h5 h6".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "start", "align"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

/** Tags of HTML that mean the same in an answer as they say; all others are shown as text. */
const HARMLESS = /^<\/?(?:br|b|i|u|s|em|strong|sub|sup|kbd)\s*\/?>$/i;

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  renderer: {
    // The page has headings of its own above these.
    heading({ tokens, depth }) {
      const tag = `h${Math.min(depth + 2, 6)}`;
      return `<${tag}>${this.parser.parseInline(tokens)}</${tag}>\n`;
    },
    image({ href, text }) {
      return `<a href="${escaped(href)}">picture: ${escaped(text || href)}</a>`;
    },
    html({ text, block }) {
      if (HARMLESS.test(text.trim())) return text;
      return block ? `<p>${escaped(text)}</p>` : escaped(text);
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** The elements of a piece of Markdown; null: it cannot be read, and is best shown as it is. */
export function elementsOf(text) {
  try {
    return DOMPurify.sanitize(marked.parse(text), ALLOWED);
  } catch {
    // Nested so deeply that the parser has no stack left.
    return null;
  }
}
