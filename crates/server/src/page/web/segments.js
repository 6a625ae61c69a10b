// Cuts Markdown into segments that can be rendered one by one, so that a stream renders its last one only.
//
// A cut is at an empty line before text at the margin that is no item of a list, and around a fence at the margin. A segment is
// `markdown`; `code`, which is shown as it is; or `plain`: text that is too long for the parser, whose time may grow
// with the square of the length.

/** Characters of a line, and of a segment, that the parser gets at most. */
const MOST_IN_LINE = 4000;
const MOST_IN_SEGMENT = 16_000;

const FENCE = /^(`{3,}|~{3,})([^`]*)$/;
const ANY_FENCE = /^\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)?(`{3,}|~{3,})/;
const ITEM = /^(?:[-*+]|\d{1,9}[.)])\s/;

/** The segments of a text, in order: `{kind, text, language}`. */
export function segments(text) {
  const found = [];
  let lines = [];
  let isLong = false;
  // The fence that is open: at the margin, where it makes a segment of its own, or within a list or a quotation.
  let open = null;
  let isAfterGap = false;

  const flush = () => {
    const body = lines.join("\n");
    if (body.trim()) found.push({ kind: isLong || body.length > MOST_IN_SEGMENT ? "plain" : "markdown", text: body });
    lines = [];
    isLong = false;
  };

  for (const line of linesOf(text)) {
    if (open?.isOwn) {
      if (closes(line, open.fence)) {
        found.push({ kind: "code", text: open.lines.join("\n"), language: open.language });
        open = null;
      } else {
        open.lines.push(line);
      }
      continue;
    }
    if (open) {
      if (closes(line.trimStart(), open.fence)) open = null;
    } else {
      const own = line.length < 200 ? FENCE.exec(line) : null;
      if (own) {
        flush();
        open = { isOwn: true, fence: own[1], language: own[2].trim().split(/\s/)[0] ?? "", lines: [] };
        continue;
      }
      const inner = ANY_FENCE.exec(line.slice(0, 200));
      if (inner) open = { isOwn: false, fence: inner[1] };
      else if (isAfterGap && /^\S/.test(line) && !ITEM.test(line.slice(0, 12))) flush();
    }
    isLong ||= line.length > MOST_IN_LINE;
    isAfterGap = !line.trim();
    lines.push(line);
  }
  if (open?.isOwn) found.push({ kind: "code", text: open.lines.join("\n"), language: open.language, isOpen: true });
  flush();
  return found;
}

function linesOf(text) {
  return text.replace(/\r\n?/g, "\n").split("\n");
}

function closes(line, fence) {
  return line.length < 200 && line.startsWith(fence) && line.replace(/\s+$/, "").split("").every((sign) => sign === fence[0]);
}
