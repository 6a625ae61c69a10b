// Asks a list of questions about a document, a few at a time, and tells how far it is.

import { get, post } from "./api.js";
import { Estimate } from "./estimate.js";

/** Questions of one request: as many as the server computes at a time. */
const AT_ONCE = 16;
/** How often the server is asked how far the document has been read. */
const EVERY_MS = 700;

/**
 * Asks, and calls `take(index, answer)` with each answer. `tell({phase, done, total, rate, left})`: `phase` is `reading`, in tokens of the document,
 * or `asking`, in questions.
 */
export async function decide({ document, questions, fields, signal, take, tell }) {
  // The first question alone reads the document; the others find it in the cache.
  const groups = [questions.slice(0, 1)];
  for (let at = 1; at < questions.length; at += AT_ONCE) groups.push(questions.slice(at, at + AT_ONCE));
  const watcher = watchReading(document.tokens, tell, signal);
  const asking = new Estimate();
  let done = 0;
  try {
    for (const group of groups) {
      const { answers } = await post("v1/decisions", { input: document.text, questions: group, ...fields }, signal);
      watcher.stop();
      for (const answer of answers) take(done++, answer);
      asking.add(performance.now(), done);
      tell({ phase: "asking", done, total: questions.length, rate: asking.rate(), left: asking.left(questions.length) });
    }
  } finally {
    watcher.stop();
  }
}

/** Looks among the server's running requests for the one whose prompt is as long as the document. */
function watchReading(tokens, tell, signal) {
  const reading = new Estimate();
  let isOn = true;
  tell({ phase: "reading", done: 0, total: tokens, rate: null, left: null });
  const look = async () => {
    const slots = await get("slots", signal).catch(() => []);
    const own = slots.find((slot) => slot.is_processing && slot.n_prompt_tokens >= tokens && slot.n_prompt_tokens < tokens + 4096);
    if (!isOn || !own) return;
    const { n_prompt_tokens: total, n_prompt_tokens_processed: done } = own;
    reading.add(performance.now(), done);
    tell({ phase: "reading", done, total, rate: reading.rate(), left: reading.left(total) });
  };
  const timer = setInterval(look, EVERY_MS);
  return {
    stop: () => {
      isOn = false;
      clearInterval(timer);
    },
  };
}
