// One message as an element, which is changed as the message grows.

import { el, icon, iconButton } from "./dom.js";
import { bytes, count, duration, figure } from "./format.js";
import { RichText } from "./rich-text.js";

/** Characters of a user's message that are shown at once. */
const MOST_SHOWN = 20_000;

const SPEAKERS = { user: "You", assistant: "Answer", tool: "Result of a tool" };

/** Why an answer ended, where that is not by itself. */
const ENDS = {
  length: "Ended at the most tokens that were allowed.",
  stopped: "Stopped.",
  interrupted: "Interrupted: the page was closed.",
};

export class MessageView {
  #text = new RichText();
  #thinking = new RichText();
  #parts = {};

  /** `actions`: what buttons do: `edit`, `redo`, `fork`, `copy`, `go(step)`, `answer(calls)`. */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.body = el("div", { class: "message-body" });
    this.foot = el("div", { class: "message-foot" });
    this.element = el(
      "li",
      { class: `message ${message.role}`, "data-id": message.id },
      el("h3", { class: "speaker", text: SPEAKERS[message.role] }),
      this.body,
      this.foot,
    );
    if (message.role === "assistant") this.#makeAnswer();
    else this.#makeText();
  }

  #makeText() {
    const { content, role, name } = this.message;
    const shown = content.slice(0, MOST_SHOWN);
    const text = el("p", { class: "typed", text: shown });
    if (role === "tool") this.body.append(el("p", { class: "tool-name" }, icon("tool"), name));
    this.body.append(text);
    if (shown.length < content.length) {
      const label = `Show all ${count(content.length)} characters`;
      const more = el("button", { type: "button", class: "button quiet", text: label, onclick: () => (text.append(content.slice(MOST_SHOWN)), more.remove()) });
      this.body.append(more);
    }
  }

  #makeAnswer() {
    const summary = el("summary");
    const thinking = el("details", { class: "thinking", hidden: true }, summary, this.#thinking.element);
    // A closed fold is not rendered; it is when it is opened.
    thinking.addEventListener("toggle", () => thinking.open && this.#thinking.show(this.message.reasoning));
    const calls = el("div", { class: "calls" });
    const progress = el("div", { class: "progress", hidden: true });
    const note = el("p", { class: "note", hidden: true });
    this.body.append(progress, thinking, this.#text.element, calls, note);
    this.#parts = { summary, thinking, calls, progress, note };
  }

  /** Shows the message as it is now. `run`: what makes it, if something does. */
  update({ run = null, documents, siblings, isLast }) {
    const { message } = this;
    if (message.role === "assistant") this.#updateAnswer(run, isLast);
    else this.#showDocuments(documents);
    // Buttons keep the focus while a text grows.
    const position = siblings.indexOf(message);
    const key = JSON.stringify([run?.state ?? null, position, siblings.length, message.usage, message.timings]);
    if (key !== this.#parts.footKey) {
      this.#parts.footKey = key;
      this.foot.replaceChildren(...this.#footParts(run, siblings, position));
    }
  }

  #showDocuments(documents) {
    if (this.#parts.documents || !this.message.documents?.length) return;
    const item = (document) =>
      el("li", { class: "attachment" }, icon("file"), document.name, el("span", { class: "muted", text: ` ${bytes(document.size)}, ${count(document.tokens ?? 0)} tokens` }));
    const known = this.message.documents.map((id) => documents.get(id)).filter(Boolean);
    this.#parts.documents = el("ul", { class: "attachments", "aria-label": "Documents" }, known.map(item));
    this.body.prepend(this.#parts.documents);
  }

  #updateAnswer(run, isLast) {
    const { message } = this;
    const { thinking, summary, note } = this.#parts;
    thinking.hidden = !message.reasoning;
    if (message.reasoning) {
      const took = message.thinkingMs !== null && message.thinkingMs !== undefined;
      summary.textContent = took ? `Thought for ${duration(message.thinkingMs / 1000)}` : "Thinking …";
      if (thinking.open) this.#thinking.show(message.reasoning);
    }
    this.#text.show(message.content);
    this.#showProgress(run);
    this.#showCalls(run, isLast);
    const end = message.finish ?? (run ? null : "interrupted");
    note.hidden = !message.error && !(end in ENDS);
    note.className = message.error ? "note error" : "note";
    note.textContent = message.error ?? ENDS[end] ?? "";
  }

  #showProgress(run) {
    const { progress } = this.#parts;
    const isShown = run && run.state !== "writing";
    progress.hidden = !isShown;
    if (!isShown) return;
    if (!run.progress) {
      progress.replaceChildren(el("p", { class: "waiting", text: "Waiting …" }));
      return;
    }
    const { total, processed, cache } = run.progress;
    const { rate, left } = run.reading;
    const words = [`${count(processed)} of ${count(total)} tokens read`];
    if (cache) words.push(`${count(cache)} from the cache`);
    if (rate) words.push(`${figure(rate)} tokens/s`);
    if (left !== null && total > processed) words.push(`${duration(left)} left`);
    if (!this.#parts.bar?.isConnected) {
      this.#parts.bar = el("progress", { "aria-label": "Reading the prompt" });
      this.#parts.words = el("p", { class: "muted" });
      progress.replaceChildren(this.#parts.bar, this.#parts.words);
    }
    this.#parts.bar.max = total;
    this.#parts.bar.value = processed;
    this.#parts.words.textContent = words.join(" · ");
  }

  #showCalls(run, isLast) {
    const { calls: place } = this.#parts;
    const { calls, finish } = this.message;
    const isOpen = Boolean(calls.length && finish && !run && isLast);
    const key = JSON.stringify([calls, isOpen]);
    if (key === this.#parts.callsKey) return;
    this.#parts.callsKey = key;
    place.replaceChildren(
      ...calls.filter(Boolean).map((call) =>
        el(
          "figure",
          { class: "call" },
          el("figcaption", {}, icon("tool"), "Calls ", el("strong", { text: call.name })),
          el("pre", { class: "wide", tabindex: "0", role: "region", "aria-label": `Arguments of ${call.name}` }, el("code", { text: pretty(call.arguments) })),
        ),
      ),
      ...(isOpen ? [this.#resultForm(calls.filter(Boolean))] : []),
    );
  }

  /** Where the user says what the tools answered. */
  #resultForm(calls) {
    const inputs = calls.map((call, index) => {
      const id = `result-${this.message.id}-${index}`;
      const input = el("textarea", { id, rows: "3", spellcheck: "false" });
      return { call, input, parts: [el("label", { for: id, text: `Result of ${call.name}` }), input] };
    });
    const send = (event) => {
      event.preventDefault();
      this.actions.answer(inputs.map(({ call, input }) => ({ call, content: input.value })));
    };
    return el("form", { class: "results", onsubmit: send }, inputs.flatMap(({ parts }) => parts), el("button", { class: "button", text: calls.length > 1 ? "Send the results" : "Send the result" }));
  }

  #footParts(run, siblings, position) {
    const { message, actions } = this;
    const parts = [];
    if (siblings.length > 1) {
      parts.push(
        iconButton("left", "The version before", () => actions.go(-1), { disabled: position === 0 }),
        el("span", { class: "muted versions", text: `${position + 1} / ${siblings.length}` }),
        iconButton("right", "The version after", () => actions.go(1), { disabled: position === siblings.length - 1 }),
      );
    }
    if (run) return parts;
    parts.push(iconButton("copy", "Copy the text", actions.copy));
    if (message.role === "user") parts.push(iconButton("edit", "Edit and ask again", actions.edit));
    if (message.role === "assistant") parts.push(iconButton("redo", "Answer again", actions.redo));
    parts.push(iconButton("fork", "Fork: a new conversation up to here", actions.fork));
    const { timings, usage } = message;
    if (Number.isFinite(timings?.predicted_per_second)) {
      const words = [`${figure(timings.predicted_per_second)} tokens/s`];
      if (Number.isFinite(usage?.completion_tokens)) words.unshift(`${count(usage.completion_tokens)} tokens`);
      parts.push(el("span", { class: "muted rate", text: words.join(" · ") }));
    }
    return parts;
  }

  /** Lets the user change a message; `done(text)` has the new one, null: it stays. */
  edit(done) {
    const input = el("textarea", { "aria-label": "Edit your message", rows: Math.min(12, this.message.content.split("\n").length + 1), value: this.message.content });
    const finish = (text) => {
      form.remove();
      this.body.hidden = this.foot.hidden = false;
      done(text);
    };
    const submit = (event) => {
      event.preventDefault();
      finish(input.value);
    };
    const onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
      if (event.key === "Escape") {
        event.stopPropagation();
        finish(null);
      }
    };
    input.addEventListener("keydown", onkeydown);
    const cancel = el("button", { type: "button", class: "button quiet", text: "Cancel", onclick: () => finish(null) });
    const form = el("form", { class: "edit", onsubmit: submit }, input, el("div", { class: "dialog-end" }, cancel, el("button", { class: "button", text: "Ask again" })));
    this.body.hidden = this.foot.hidden = true;
    this.body.before(form);
    input.focus();
  }
}

/** Arguments as JSON of several lines; as they are, where they are none. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
