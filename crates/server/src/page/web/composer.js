// Where a message is written: text, documents, and what room is left.

import { countPrompt } from "./api.js";
import { byId, el, icon, iconButton } from "./dom.js";
import { readDocument } from "./documents.js";
import { bytes, count } from "./format.js";
import { messagesOf } from "./request.js";

/** After so long a pause in writing, the tokens are counted. */
const PAUSE_MS = 500;
/** Lines of the box at most, in pixels. */
const MOST_HEIGHT = 240;

export class Composer {
  #draft = byId("draft");
  #error = byId("composer-error");
  #room = byId("room");
  /** Documents that go with the next message; while one is read it has no text yet. */
  #documents = [];
  #timer = null;
  #counting = null;

  constructor(chat, server) {
    Object.assign(this, { chat, server });
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("attach").addEventListener("click", () => byId("attach-file").click());
    byId("attach-file").addEventListener("change", ({ target }) => {
      this.attach([...target.files]);
      target.value = "";
    });
    byId("stop").addEventListener("click", () => {
      chat.stop();
      this.focus();
    });
    this.#draft.addEventListener("input", () => {
      this.#grow();
      this.#countSoon();
    });
    this.#draft.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    chat.addEventListener("change", () => this.#countSoon());
  }

  focus() {
    this.#draft.focus();
  }

  /** Another conversation is shown: what was written stays, documents do too. */
  #grow() {
    this.#draft.style.height = "auto";
    this.#draft.style.height = `${Math.min(this.#draft.scrollHeight, MOST_HEIGHT)}px`;
  }

  #say(problem) {
    this.#error.textContent = problem ?? "";
    this.#error.hidden = !problem;
  }

  /** Reads files and shows them beside the message. */
  async attach(files) {
    this.#say(null);
    for (const file of files) {
      const entry = { name: file.name, size: file.size, abort: new AbortController() };
      this.#documents.push(entry);
      this.#showDocuments();
      try {
        Object.assign(entry, await readDocument(file, entry.abort.signal));
      } catch (error) {
        this.#documents = this.#documents.filter((other) => other !== entry);
        if (error.name !== "AbortError") this.#say(error.message);
      }
      this.#showDocuments();
    }
    this.focus();
    this.#countSoon();
  }

  #showDocuments() {
    const item = (entry) => {
      const tokens = entry.text === undefined ? "counting tokens …" : `${count(entry.tokens)} tokens`;
      const remove = iconButton("close", `Remove ${entry.name}`, () => {
        entry.abort.abort();
        this.#documents = this.#documents.filter((other) => other !== entry);
        this.#showDocuments();
        this.#say(null);
        this.focus();
        this.#countSoon();
      });
      return el("li", { class: "attachment" }, icon("file"), el("span", { class: "name", text: entry.name }), el("span", { class: "muted", text: `${bytes(entry.size)}, ${tokens}` }), remove);
    };
    byId("attachments").replaceChildren(...this.#documents.map(item));
  }

  async #send() {
    const text = this.#draft.value.trim();
    if (this.chat.run || (!text && !this.#documents.length)) return;
    if (this.#documents.some((entry) => entry.text === undefined)) return this.#say("The document is still being read.");
    const documents = this.#documents.map(({ name, size, text, tokens }) => ({ name, size, text, tokens }));
    const [draft, attached] = [this.#draft.value, this.#documents];
    this.#say(null);
    this.#draft.value = "";
    this.#documents = [];
    this.#grow();
    this.#showDocuments();
    try {
      await this.chat.send(text, documents);
    } catch (error) {
      // What was written is not lost.
      this.#draft.value = draft;
      this.#documents = attached;
      this.#grow();
      this.#showDocuments();
      this.#say(error.message);
    }
  }

  #countSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#count(), PAUSE_MS);
  }

  /** Says how much of the context the next message would take. Documents were counted when they were read, so they are not sent for it. */
  async #count() {
    const { conversation } = this.chat;
    this.#counting?.abort();
    this.#counting = new AbortController();
    const path = conversation.path().map((message) => (message.documents?.length ? { ...message, documents: [] } : message));
    const known = conversation.path().flatMap((message) => (message.documents ?? []).map((id) => conversation.documents.get(id)));
    const documents = [...known, ...this.#documents].filter((document) => document?.tokens);
    const next = { role: "user", content: this.#draft.value, documents: [] };
    const inDocuments = documents.reduce((sum, { tokens }) => sum + tokens, 0);
    try {
      const n = inDocuments + (await countPrompt({ messages: messagesOf(conversation, [...path, next]) }, this.#counting.signal));
      const most = this.server.nCtx(conversation.settings);
      const isFull = n > most;
      this.#room.textContent = `${documents.length ? "about " : ""}${count(n)} of ${count(most)} tokens${isFull ? ": too many" : ""}`;
      this.#room.classList.toggle("full", isFull);
    } catch (error) {
      if (error.name !== "AbortError") this.#room.textContent = "";
    }
  }
}
