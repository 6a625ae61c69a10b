// Server-sent events of a response.

/** The data of each event of a stream of bytes, in order. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  const parts = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      // An event ends with an empty line. What belongs to an unfinished one is joined once, not with every piece.
      let rest = (parts.at(-1)?.endsWith("\n") ? parts.pop() : "") + value;
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        parts.push(rest.slice(0, end));
        const data = dataOf(parts.splice(0).join(""));
        if (data !== null) yield data;
        rest = rest.slice(end + 2);
      }
      if (rest) parts.push(rest);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.length ? lines.map((line) => line.slice(5).trimStart()).join("\n") : null;
}
