// Conversations as a file, and back.
//
// A file from elsewhere is a stranger's: every field is checked, and everything gets a new id, so that nothing here is
// overwritten.

import { PLAIN_SETTINGS, listConversations } from "./conversation.js";
import * as store from "./store.js";

const FORMAT = "lossy-conversations";
const VERSION = 1;

/** What a file cannot be, in one line. */
export class TransferError extends Error {}

/** The conversations with these ids as the text of a file; none: all. */
export async function exported(ids = null) {
  const conversations = (await listConversations()).filter(({ id }) => !ids || ids.includes(id));
  const trees = [...new Set(conversations.map(({ tree }) => tree))];
  const of = async (kind) => (await Promise.all(trees.map((tree) => store.ofTree(kind, tree)))).flat();
  const [messages, documents] = [await of("messages"), await of("documents")];
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations, messages, documents }, null, 1);
}

/** Saves the conversations of a file's text beside those that there are, and returns their ids. */
export async function imported(text) {
  const read = records(text);
  for (const kind of ["documents", "messages", "conversations"]) {
    for (const record of read[kind]) await store.put(kind, record);
  }
  return read.conversations.map(({ id }) => id);
}

/** The records of a file, checked and with new ids. */
export function records(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new TransferError(`the file is not JSON: ${error.message}`);
  }
  if (file?.format !== FORMAT) throw new TransferError(`the file is no export of conversations: its "format" is not "${FORMAT}"`);
  if (file.version !== VERSION) throw new TransferError(`the file has version ${file.version}, but this page reads version ${VERSION}`);
  const news = new Map();
  // A reference to something that the file lacks becomes one to nothing.
  const renamed = (id) => (typeof id === "string" ? (news.get(id) ?? null) : null);
  const lists = ["conversations", "messages", "documents"].map((kind) => list(file, kind));
  for (const [index, records] of lists.entries()) {
    for (const [at, record] of records.entries()) {
      const where = `${["conversations", "messages", "documents"][index]}[${at}]`;
      if (typeof record?.id !== "string" || typeof record.tree !== "string") throw new TransferError(`${where} has no id or tree`);
      if (news.has(record.id)) throw new TransferError(`${where} has the id of another record: ${record.id}`);
      news.set(record.id, store.newId());
      if (!news.has(`tree ${record.tree}`)) news.set(`tree ${record.tree}`, store.newId());
    }
  }
  const ids = (record) => ({ id: news.get(record.id), tree: news.get(`tree ${record.tree}`) });
  const [conversations, messages, documents] = lists;
  return {
    conversations: conversations.map((record) => ({ ...ids(record), ...conversation(record, renamed) })),
    messages: messages.map((record) => ({ ...ids(record), ...message(record, renamed) })),
    documents: documents.map((record) => ({ ...ids(record), ...document(record) })),
  };
}

function list(file, kind) {
  if (!Array.isArray(file[kind])) throw new TransferError(`the file has no list "${kind}"`);
  return file[kind];
}

const string = (value) => (typeof value === "string" ? value : "");
const number = (value) => (Number.isFinite(value) ? value : null);
/** Figures and words of the server: kept if they are an object, and read with care wherever they are shown. */
const object = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : null);

function conversation(record, renamed) {
  const settings = { ...PLAIN_SETTINGS };
  for (const name of Object.keys(settings)) {
    const value = record.settings?.[name];
    if (typeof settings[name] === "string") settings[name] = string(value);
    else settings[name] = name === "kv" || name === "positions" ? string(value) || null : number(value);
  }
  const now = Date.now();
  const times = { created: number(record.created) ?? now, updated: number(record.updated) ?? now };
  return { head: renamed(record.head), title: string(record.title).slice(0, 200), ...times, settings };
}

function message(record, renamed) {
  const shared = { parent: renamed(record.parent), created: number(record.created) ?? 0, content: string(record.content) };
  switch (record.role) {
    case "user": {
      const documents = Array.isArray(record.documents) ? record.documents.map(renamed).filter(Boolean) : [];
      return { role: "user", ...shared, documents };
    }
    case "assistant": {
      const calls = (Array.isArray(record.calls) ? record.calls : []).map((call) => ({
        id: string(call?.id),
        name: string(call?.name),
        arguments: string(call?.arguments),
      }));
      const told = { finish: string(record.finish) || "stopped", error: string(record.error) || null };
      const figures = { usage: object(record.usage), timings: object(record.timings), thinkingMs: number(record.thinkingMs) };
      return { role: "assistant", ...shared, reasoning: string(record.reasoning), calls, ...told, ...figures };
    }
    case "tool":
      return { role: "tool", ...shared, callId: string(record.callId), name: string(record.name) };
    default:
      throw new TransferError(`a message has the role ${JSON.stringify(record.role)}, but may have user, assistant or tool`);
  }
}

function document(record) {
  const text = string(record.text);
  return { name: string(record.name) || "document", size: number(record.size) ?? text.length, text, tokens: number(record.tokens) };
}
