// The list of conversations.

import { exported, imported } from "./transfer.js";
import { confirmed, told, asked } from "./dialogs.js";
import { listConversations } from "./conversation.js";
import * as store from "./store.js";
import { announce, byId, download, el, iconButton } from "./dom.js";
import { when } from "./format.js";

export class Sidebar {
  #list = byId("conversations");

  constructor(chat) {
    this.chat = chat;
    byId("new-conversation").addEventListener("click", () => (location.hash = "#chat"));
    byId("export-all").addEventListener("click", () => this.#export(null, "conversations"));
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", async ({ target }) => {
      const [file] = target.files;
      if (file) await this.#import(file);
      target.value = "";
    });
    chat.addEventListener("change", () => this.render());
  }

  async render() {
    const records = await listConversations();
    const shown = this.chat.conversation.id;
    const focused = document.activeElement?.closest("#conversations li")?.dataset.id;
    const label = document.activeElement?.getAttribute("aria-label");
    this.#list.replaceChildren(...records.map((record) => this.#item(record, record.id === shown)));
    // The focus stays where it was, on the item that took the place of the old one.
    const item = focused && this.#list.querySelector(`[data-id="${focused}"]`);
    (item?.querySelector(`[aria-label="${CSS.escape(label ?? "")}"]`) ?? item?.querySelector("a"))?.focus();
  }

  #item(record, isShown) {
    const title = record.title || "Conversation";
    const link = el("a", { href: `#chat/${record.id}`, title, "aria-current": isShown ? "page" : null }, el("span", { class: "title", text: title }), el("span", { class: "muted time", text: when(record.updated) }));
    const tools = el(
      "span",
      { class: "item-tools" },
      iconButton("edit", `Rename ${title}`, () => this.#rename(record)),
      iconButton("save", `Export ${title}`, () => this.#export([record.id], title)),
      iconButton("close", `Delete ${title}`, () => this.#erase(record, title)),
    );
    return el("li", { "data-id": record.id }, link, tools);
  }

  async #rename(record) {
    const title = await asked("Rename the conversation", { label: "Title", value: record.title, action: "Rename" });
    if (!title) return;
    // The one that is shown lives in memory as well.
    const target = record.id === this.chat.conversation.id ? this.chat.conversation.record : record;
    target.title = title.slice(0, 200);
    await store.put("conversations", target);
    await this.render();
  }

  async #erase(record, title) {
    if (!(await confirmed("Delete the conversation?", `“${title}” is erased from this browser. This cannot be taken back.`, "Delete"))) return;
    await this.chat.erase(record);
    await this.render();
    announce("Deleted.");
    byId("new-conversation").focus();
  }

  async #export(ids, name) {
    const file = name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation";
    download(`${file}.json`, "application/json", await exported(ids));
  }

  async #import(file) {
    try {
      const ids = await imported(await file.text());
      if (ids.length) location.hash = `#chat/${ids[0]}`;
      await this.render();
      announce(`${ids.length} conversations imported.`);
    } catch (error) {
      await told("The file cannot be imported", error.message);
    }
  }
}
