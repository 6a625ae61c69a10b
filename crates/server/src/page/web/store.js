// What the browser keeps: conversations, their messages and documents, and the table of questions.
//
// Messages belong to a tree, and so do documents; conversations that were forked from one another are heads in one tree.

const NAME = "lossy";
const VERSION = 1;
/** Records by kind, each with the index that it is looked up by, if it has one. */
const KINDS = { conversations: null, messages: "tree", documents: "tree", sheets: null };

let database = null;
/** In place of a database, where the browser refuses one. */
const memory = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, new Map()]));

/** Opens the database. False: the browser refuses, and records live until the page is closed. */
export async function open() {
  try {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      for (const [kind, index] of Object.entries(KINDS)) {
        const store = request.result.createObjectStore(kind, { keyPath: "id" });
        if (index) store.createIndex(index, index);
      }
    };
    database = await result(request);
    return true;
  } catch {
    return false;
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Runs `act` on a store, and waits until it is on the disk. */
async function change(kind, act) {
  const transaction = database.transaction(kind, "readwrite");
  act(transaction.objectStore(kind));
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** Saves a record in place of the one with its id. */
export async function put(kind, record) {
  if (!database) return void memory[kind].set(record.id, structuredClone(record));
  await change(kind, (store) => store.put(record));
}

/** Erases the records with these ids. */
export async function erase(kind, ids) {
  if (!database) return ids.forEach((id) => memory[kind].delete(id));
  await change(kind, (store) => ids.forEach((id) => store.delete(id)));
}

/** The record with this id; undefined: there is none. */
export async function get(kind, id) {
  if (!database) return structuredClone(memory[kind].get(id));
  return result(database.transaction(kind).objectStore(kind).get(id));
}

/** All records of a kind. */
export async function all(kind) {
  if (!database) return structuredClone([...memory[kind].values()]);
  return result(database.transaction(kind).objectStore(kind).getAll());
}

/** The records of a tree. */
export async function ofTree(kind, tree) {
  if (!database) return (await all(kind)).filter((record) => record.tree === tree);
  return result(database.transaction(kind).objectStore(kind).index("tree").getAll(tree));
}

/** A name that nothing else has. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
