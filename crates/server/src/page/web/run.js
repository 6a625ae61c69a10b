// One answer in the making: takes the chunks of a stream, and fills a message with them.

import { streamChat } from "./api.js";
import { Estimate } from "./estimate.js";
import { STREAMED } from "./request.js";

/** An answer is saved so often while it is made, so that little is lost with the browser. */
const SAVE_MS = 3000;

/** An answer of which nothing is known yet. */
export function emptyAnswer() {
  return { role: "assistant", content: "", reasoning: "", calls: [], finish: null, error: null, usage: null, timings: null, thinkingMs: null };
}

export class Run {
  #abort = new AbortController();
  #estimate = new Estimate();
  #thinkingSince = null;

  /** `body`: the request; `message`: what is filled; `onChange` and `save` are called while and after it is. */
  constructor({ body, message, onChange, save }) {
    Object.assign(this, { body, message, onChange, save });
    /** tokens of the prompt, and how many have been read; null: nothing is known yet */
    this.progress = null;
  }

  /** `waiting`, `reading` or `writing` */
  get state() {
    const { content, reasoning, calls } = this.message;
    if (content || reasoning || calls.length) return "writing";
    return this.progress ? "reading" : "waiting";
  }

  /** Tokens of the prompt a second, and seconds until it is read; null: not known yet. */
  get reading() {
    const { total } = this.progress;
    return { rate: this.#estimate.rate(), left: this.#estimate.left(total) };
  }

  stop() {
    this.#abort.abort();
  }

  /** Asks, and returns when the answer has ended in whatever way: `message.finish` says how. */
  async go() {
    let saved = Date.now();
    try {
      for await (const chunk of streamChat({ ...this.body, ...STREAMED }, this.#abort.signal)) {
        this.#take(chunk);
        this.onChange();
        if (Date.now() - saved > SAVE_MS) {
          saved = Date.now();
          await this.save();
        }
      }
      this.message.finish ??= "stop";
    } catch (error) {
      const isStopped = error.name === "AbortError";
      this.message.finish = isStopped ? "stopped" : "error";
      this.message.error = isStopped ? null : error.message;
    }
    this.#endThinking();
    await this.save();
  }

  #take({ choices, usage, timings, prompt_progress: progress }) {
    const { message } = this;
    if (progress) {
      if (!this.progress) this.#estimate.add(0, progress.cache);
      this.progress = progress;
      this.#estimate.add(progress.time_ms, progress.processed);
    }
    message.usage = usage ?? message.usage;
    message.timings = timings ?? message.timings;
    const choice = choices?.[0];
    if (!choice) return;
    const { content, reasoning_content: thinking, tool_calls: calls = [] } = choice.delta;
    if (thinking) {
      this.#thinkingSince ??= Date.now();
      message.reasoning += thinking;
    }
    if (content || calls.length) this.#endThinking();
    message.content += content ?? "";
    for (const { index, id, function: { name, arguments: text = "" } = {} } of calls) {
      const call = (message.calls[index] ??= { id: id ?? `call_${index}`, name: "", arguments: "" });
      call.name = name ?? call.name;
      call.arguments += text;
    }
    message.finish = choice.finish_reason ?? message.finish;
  }

  #endThinking() {
    if (this.#thinkingSince !== null && this.message.thinkingMs === null) {
      this.message.thinkingMs = Date.now() - this.#thinkingSince;
    }
  }
}
