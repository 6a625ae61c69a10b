// The view of a conversation: its messages, and what can be done with them.

import { countPrompt } from "./api.js";
import { Conversation, eraseConversation } from "./conversation.js";
import { announce, byId, el } from "./dom.js";
import { told } from "./dialogs.js";
import { count } from "./format.js";
import { MessageView } from "./message-view.js";
import { requestOf, toolsOf } from "./request.js";
import { Run, emptyAnswer } from "./run.js";

/** Pixels from the end within which a text that grows is followed. */
const NEAR_END = 80;

export class Chat extends EventTarget {
  /** What is shown. */
  conversation = null;
  /** Answers in the making, by the id of their message: also of conversations that are not shown. */
  #runs = new Map();
  #views = new Map();
  #list = byId("messages");
  #scroller = byId("scroller");
  #frame = null;

  /** `server`: what is known of it. */
  constructor(server) {
    super();
    this.server = server;
  }

  /** Shows a conversation. */
  show(conversation) {
    this.conversation = conversation;
    this.#views.clear();
    this.#list.replaceChildren();
    this.#render();
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#tell();
  }

  /** The answer that is made in the conversation that is shown; null: none is. */
  get run() {
    const path = this.conversation?.path() ?? [];
    return this.#runs.get(path.at(-1)?.id) ?? null;
  }

  /** The answers in the making of a conversation, by its tree. */
  isBusy(tree) {
    return [...this.#runs.values()].some((run) => run.message.tree === tree);
  }

  /** What the last answer of the path told, if it told something. */
  get lastAnswer() {
    const answers = this.conversation?.path().filter(({ role }) => role === "assistant") ?? [];
    return answers.findLast(({ usage, timings }) => usage || timings) ?? null;
  }

  stop() {
    this.run?.stop();
  }

  /**
   * Adds a user's message and asks for the answer. `documents`: ones that were read; those of a message that is edited are ids.
   * Fails, and adds nothing, if it does not fit.
   */
  async send(content, documents, parent = this.conversation.record.head) {
    const { conversation } = this;
    const known = documents.filter((document) => typeof document === "string");
    const added = documents.filter((document) => typeof document !== "string");
    await this.#check(conversation, parent, { content, added, known });
    const ids = [...known];
    for (const document of added) ids.push(await conversation.attach(document));
    const message = await conversation.append(parent, { role: "user", content, documents: ids });
    await this.#answer(conversation, message);
  }

  /** Fails if the prompt would be longer than the context: nothing is ever cut off. */
  async #check(conversation, parent, { content, added, known }) {
    const stand = new Map(conversation.documents);
    added.forEach((document, index) => stand.set(`new ${index}`, document));
    const ids = [...known, ...added.map((_, index) => `new ${index}`)];
    const asked = { settings: conversation.settings, documents: stand };
    const body = requestOf(asked, [...conversation.path(parent), { role: "user", content, documents: ids }]);
    if (!ids.length) return;
    const [n, most] = [await countPrompt(body), this.server.nCtx(conversation.settings)];
    if (n > most) {
      throw new Error(`This does not fit: the prompt has ${count(n)} tokens, and the context ${count(most)}. Take a shorter document, or start the server with -c ${2 ** Math.ceil(Math.log2(n + 256))}.`);
    }
  }

  async #answer(conversation, after) {
    const path = conversation.path(after.id);
    let body;
    try {
      body = requestOf(conversation, path);
    } catch (error) {
      return told("The settings cannot be used", error.message);
    }
    const message = await conversation.append(after.id, emptyAnswer());
    const run = new Run({
      body,
      message,
      onChange: () => conversation === this.conversation && this.#schedule(),
      save: () => conversation.saveMessage(message),
    });
    run.conversation = conversation;
    this.#runs.set(message.id, run);
    this.#render();
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#tell();
    await run.go();
    this.#runs.delete(message.id);
    this.#schedule();
    this.#tell();
    if (conversation === this.conversation) this.#announce(message);
  }

  #announce({ content, calls, error }) {
    if (error) return announce(`Error: ${error}`);
    const called = calls.map(({ name }) => `The model calls ${name}.`);
    announce(["Answer:", content, ...called].join(" "));
  }

  /** Asks the last question of the path again. */
  async regenerate(message = this.conversation.path().at(-1)) {
    if (!message || this.run) return;
    const { conversation } = this;
    const after = message.role === "assistant" ? conversation.messages.get(message.parent) : message;
    if (after) await this.#answer(conversation, after);
  }

  /** Lets the user edit a message of theirs; the last one, if none is named. */
  edit(message = this.conversation.path().findLast(({ role }) => role === "user")) {
    if (!message || this.run) return;
    this.#views.get(message.id).edit(async (text) => {
      this.#views.get(message.id)?.element.querySelector("button[aria-label^=Edit]")?.focus();
      if (text === null) return;
      try {
        await this.send(text, message.documents, message.parent);
      } catch (error) {
        await told("This cannot be asked", error.message);
      }
    });
  }

  async #answerCalls(message, results) {
    const { conversation } = this;
    let last = message;
    for (const { call, content } of results) {
      last = await conversation.append(last.id, { role: "tool", content, callId: call.id, name: call.name });
    }
    await this.#answer(conversation, last);
  }

  /** Erases a conversation; if it is the one that is shown, an empty one is shown. */
  async erase(record) {
    for (const run of this.#runs.values()) {
      if (run.message.tree === record.tree) run.stop();
    }
    await eraseConversation(record.id);
    if (record.id === this.conversation.id) location.hash = "#chat";
    this.#tell();
  }

  /** Listeners learn that something has begun, ended or moved. */
  #tell() {
    this.dispatchEvent(new Event("change"));
  }

  /** Renders before the next frame; also where the page is not in sight, and there are no frames. */
  #schedule() {
    if (this.#frame !== null) return;
    const render = () => {
      cancelAnimationFrame(this.#frame);
      clearTimeout(timer);
      this.#frame = null;
      this.#render();
    };
    const timer = setTimeout(render, 500);
    this.#frame = requestAnimationFrame(render);
  }

  #render() {
    const { conversation } = this;
    const path = conversation.path();
    const isAtEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight < NEAR_END;
    const wanted = new Set(path.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (!wanted.has(id)) {
        view.element.remove();
        this.#views.delete(id);
      }
    }
    for (const [index, message] of path.entries()) {
      let view = this.#views.get(message.id);
      const isLast = index === path.length - 1;
      const run = this.#runs.get(message.id) ?? null;
      if (!view) {
        view = new MessageView(message, this.#actions(message));
        this.#views.set(message.id, view);
        this.#list.append(view.element);
      } else if (!run && !isLast && view.isSettled) {
        // Nothing changes in the middle of a conversation but how many versions there are.
        if (view.nSiblings === conversation.siblings(message).length) continue;
      }
      const siblings = conversation.siblings(message);
      view.update({ run, documents: conversation.documents, siblings, isLast });
      view.isSettled = !run && !isLast;
      view.nSiblings = siblings.length;
    }
    byId("welcome").hidden = path.length > 0;
    this.#list.hidden = path.length === 0;
    byId("stop").hidden = !this.run;
    byId("send").hidden = Boolean(this.run);
    if (isAtEnd) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    if (this.run) this.dispatchEvent(new Event("progress"));
  }

  #actions(message) {
    const { conversation } = this;
    return {
      copy: async () => {
        await navigator.clipboard.writeText(message.content);
        announce("Copied.");
      },
      edit: () => this.edit(message),
      redo: () => this.regenerate(message),
      fork: async () => {
        location.hash = `#chat/${await conversation.fork(message)}`;
        announce("A new conversation, up to here.");
      },
      go: async (step) => {
        const siblings = conversation.siblings(message);
        const to = siblings[siblings.indexOf(message) + step];
        await conversation.select(to);
        this.#render();
        this.#tell();
        const label = step < 0 ? "The version before" : "The version after";
        const view = this.#views.get(to.id).element;
        (view.querySelector(`button[aria-label="${label}"]:enabled`) ?? view.querySelector("button:enabled"))?.focus();
      },
      answer: (results) => this.#answerCalls(message, results),
    };
  }

  /** Opens the conversation with this id; an empty one, if there is none. */
  async open(id, defaults) {
    // One that is being answered is in memory already, with more than the store has.
    const running = [...this.#runs.values()].find(({ conversation }) => conversation.id === id)?.conversation;
    const saved = running ?? (id ? await Conversation.load(id) : null);
    this.show(saved ?? Conversation.create(defaults));
    return Boolean(saved);
  }

  /** Whether the tools of the settings can be read; they are checked when they are saved, too. */
  get nTools() {
    try {
      return toolsOf(this.conversation.settings.tools).length;
    } catch {
      return 0;
    }
  }
}

/** What is there before the first message. */
export function welcome(server) {
  return [
    el("h3", { text: "Ask something" }),
    el("p", { text: `${server.model} answers on this machine. What you write goes to this server and nowhere else; conversations are kept in this browser.` }),
    el("p", { text: "Drop a long text file to ask about it. It is read once; later questions find it in the cache." }),
  ];
}
