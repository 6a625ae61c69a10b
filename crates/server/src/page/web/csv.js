// Comma-separated values, as RFC 4180 has them.

/** The records of a text, each `{line, cells}`; empty lines are none. Fails where a quotation does not end. */
export function parseCsv(text) {
  const records = [];
  let cells = [];
  let [at, line, start] = [0, 1, 1];
  text = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  while (at < text.length) {
    let cell = "";
    if (text[at] === '"') {
      for (;;) {
        const end = text.indexOf('"', at + 1);
        if (end < 0) throw new Error(`line ${start}: a quotation does not end`);
        cell += text.slice(at + 1, end);
        at = end + 1;
        if (text[at] !== '"') break;
        cell += '"';
      }
      line += cell.split("\n").length - 1;
    }
    const end = text.slice(at).search(/[,\n]/);
    const stop = end < 0 ? text.length : at + end;
    cells.push(cell + text.slice(at, stop));
    at = stop + 1;
    if (text[stop] === ",") {
      if (stop + 1 >= text.length) cells.push("");
      else continue;
    }
    if (cells.length > 1 || cells[0] !== "") records.push({ line: start, cells });
    cells = [];
    line += 1;
    start = line;
  }
  return records;
}

/** A spreadsheet computes a text that begins with one of these. */
const FORMULA = /^[=+\-@\t\r\n]/;

/** Rows of texts and numbers as CSV. A text that a spreadsheet would compute gets an apostrophe before it. */
export function writeCsv(rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && FORMULA.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}
