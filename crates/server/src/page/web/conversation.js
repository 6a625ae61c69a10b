// A conversation: a path through a tree of messages.
//
// ```text
// user ─ assistant ─ user ─ assistant          each message knows the one before it. To edit a question or to ask again
//          │          └─ user ─ assistant ◄    adds a sibling; nothing is overwritten. `head` is the last message of the path.
//          └─ assistant                        A fork is another conversation with a head in the same tree.
// ```

import * as store from "./store.js";

/** What a conversation is asked with; null: as the server was started. */
export const PLAIN_SETTINGS = Object.freeze({
  system: "",
  tools: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  seed: null,
  max_tokens: null,
  kv: null,
  positions: null,
});

/** Characters of a title. */
const TITLE = 60;

export class Conversation {
  /** `record`: as the store has it. */
  constructor(record, messages = [], documents = []) {
    this.record = record;
    this.messages = new Map(messages.map((message) => [message.id, message]));
    this.documents = new Map(documents.map((document) => [document.id, document]));
  }

  /** An empty one; nothing is saved before it has a message. */
  static create(settings) {
    const now = Date.now();
    const ids = { id: store.newId(), tree: store.newId() };
    return new Conversation({ ...ids, head: null, title: "", created: now, updated: now, settings: { ...PLAIN_SETTINGS, ...settings } });
  }

  /** The saved one with this id; null: there is none. */
  static async load(id) {
    const record = await store.get("conversations", id);
    if (!record) return null;
    const [messages, documents] = await Promise.all(["messages", "documents"].map((kind) => store.ofTree(kind, record.tree)));
    return new Conversation(record, messages, documents);
  }

  get id() {
    return this.record.id;
  }

  get settings() {
    return this.record.settings;
  }

  /** The messages from the first to `head`. */
  path(head = this.record.head) {
    const path = [];
    const seen = new Set();
    for (let at = this.messages.get(head); at && !seen.has(at.id); at = this.messages.get(at.parent)) {
      seen.add(at.id);
      path.push(at);
    }
    return path.reverse();
  }

  /** The messages that stand in the same place, oldest first. */
  siblings(message) {
    return this.#children(message.parent);
  }

  #children(parent) {
    const of = [...this.messages.values()].filter((message) => message.parent === parent);
    return of.sort((a, b) => a.created - b.created);
  }

  /** Adds a message behind `parent`, and makes it the head. */
  async append(parent, fields) {
    const message = { id: store.newId(), tree: this.record.tree, parent, created: Date.now(), ...fields };
    // Two that are made within a millisecond keep their order.
    const last = this.#children(parent).at(-1);
    if (last && message.created <= last.created) message.created = last.created + 1;
    this.messages.set(message.id, message);
    this.record.head = message.id;
    if (!this.record.title && message.role === "user") this.record.title = this.#titleOf(message);
    await this.saveMessage(message);
    await this.save();
    return message;
  }

  #titleOf({ content, documents }) {
    const words = content.trim().replace(/\s+/g, " ") || this.documents.get(documents[0])?.name || "Conversation";
    return words.length > TITLE ? `${words.slice(0, TITLE - 1)}…` : words;
  }

  /** Goes to the newest path through a message. */
  async select(message) {
    let at = message;
    const seen = new Set();
    for (let next = at; next && !seen.has(next.id); next = this.#children(at.id).at(-1)) {
      seen.add(next.id);
      at = next;
    }
    this.record.head = at.id;
    await this.save();
  }

  /** Another conversation that has this one's messages up to `message`. */
  async fork(message) {
    const now = Date.now();
    const title = `${this.record.title || "Conversation"} (fork)`;
    const record = { ...structuredClone(this.record), id: store.newId(), head: message.id, title, created: now, updated: now };
    await store.put("conversations", record);
    return record.id;
  }

  /** Adds a document that messages may have. */
  async attach({ name, size, text, tokens }) {
    const document = { id: store.newId(), tree: this.record.tree, name, size, text, tokens };
    this.documents.set(document.id, document);
    await store.put("documents", document);
    return document.id;
  }

  async saveMessage(message) {
    await store.put("messages", message);
  }

  async save() {
    this.record.updated = Date.now();
    await store.put("conversations", this.record);
  }
}

/** All conversations as the store has them, the last used first. */
export async function listConversations() {
  const records = await store.all("conversations");
  return records.sort((a, b) => b.updated - a.updated);
}

/** Erases a conversation, and its messages unless a fork has them too. */
export async function eraseConversation(id) {
  const record = await store.get("conversations", id);
  await store.erase("conversations", [id]);
  const isShared = (await store.all("conversations")).some((other) => other.tree === record?.tree);
  if (!record || isShared) return;
  for (const kind of ["messages", "documents"]) {
    await store.erase(kind, (await store.ofTree(kind, record.tree)).map((part) => part.id));
  }
}
