// Puts the parts of the page together.

import { onKeyNeeded } from "./api.js";
import { Chat, welcome } from "./chat.js";
import { Composer } from "./composer.js";
import { asked, told } from "./dialogs.js";
import { announce, byId, icon } from "./dom.js";
import { onDrop } from "./documents.js";
import { listen, showKeys } from "./keyboard.js";
import { Panel } from "./panel.js";
import { QuestionsView } from "./questions-view.js";
import { ServerFacts } from "./server.js";
import { defaults, editSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import * as store from "./store.js";
import { nextTheme, theme } from "./theme.js";

const THEMES = { system: "as the system has them", light: "light", dark: "dark" };

const server = new ServerFacts();
const chat = new Chat(server);
const composer = new Composer(chat, server);
const sidebar = new Sidebar(chat);
const panel = new Panel(chat, server);
const questions = new QuestionsView(byId("view-questions"), server);

/** Shows what the address says: `#chat`, `#chat/ID` or `#questions`. */
async function route() {
  const [view, id = null] = location.hash.slice(1).split("/");
  const isQuestions = view === "questions";
  byId("view-chat").hidden = isQuestions;
  byId("view-questions").hidden = !isQuestions;
  document.body.dataset.view = isQuestions ? "questions" : "chat";
  for (const name of ["chat", "questions"]) {
    const isShown = (name === "questions") === isQuestions;
    if (isShown) byId(`tab-${name}`).setAttribute("aria-current", "page");
    else byId(`tab-${name}`).removeAttribute("aria-current");
  }
  close("sidebar");
  // There always is a conversation, also where it is not in sight.
  if (!chat.conversation) await chat.open(isQuestions ? null : id, defaults());
  if (isQuestions) {
    document.title = `Questions · lossy`;
    return questions.shown();
  }
  const { record } = chat.conversation;
  const isShown = id ? id === record.id : !record.head;
  const isFound = isShown || (await chat.open(id, defaults()));
  if (id && !isFound) history.replaceState(null, "", "#chat");
  follow();
  if (!matchMedia("(pointer: coarse)").matches) composer.focus();
}

/** The address of the conversation that is shown: an empty one has none of its own. */
function address() {
  const { record } = chat.conversation;
  return record.head ? `#chat/${record.id}` : "#chat";
}

/** The address follows what is shown, so that a reload shows it again. */
function follow() {
  byId("tab-chat").href = address();
  if (byId("view-chat").hidden) return;
  if (location.hash !== address()) history.replaceState(null, "", address());
  document.title = `${chat.conversation.record.title || "Chat"} · lossy`;
}

/** The two columns beside the view; where there is no room for them they lie above it. */
function toggle(name, isOpen = document.body.dataset[name] !== "open") {
  document.body.dataset[name] = isOpen ? "open" : "closed";
  byId(`toggle-${name}`).setAttribute("aria-expanded", String(isOpen));
}

/** Goes to an address; where it is the one that is shown, to the message. */
function goTo(hash) {
  if (location.hash === hash) composer.focus();
  else location.hash = hash;
}

function close(name) {
  const isAbove = getComputedStyle(byId(name)).position === "fixed";
  if (isAbove) toggle(name, false);
}

async function settings() {
  const { conversation } = chat;
  const changed = await editSettings(conversation.settings, server);
  if (!changed) return;
  conversation.record.settings = changed;
  if (conversation.record.head) await conversation.save();
  chat.dispatchEvent(new Event("change"));
  announce("Saved.");
}

function colours() {
  nameTheme(nextTheme());
  announce(`Colours: ${THEMES[theme()]}`);
}

function nameTheme(name) {
  const label = `Colours: ${THEMES[name]}`;
  byId("switch-theme").setAttribute("aria-label", label);
  byId("switch-theme").title = label;
}

/** Escape ends what is on top: a column above the view, or else the answer that is made. */
function escape() {
  for (const name of ["panel", "sidebar"]) {
    const isAbove = getComputedStyle(byId(name)).position === "fixed" && document.body.dataset[name] === "open";
    if (isAbove) {
      toggle(name, false);
      return byId(`toggle-${name}`).focus();
    }
  }
  if (byId("view-chat").hidden) questions.stop();
  else chat.stop();
}

const shortcuts = [
  { key: "Escape", name: "stop the answer", isEverywhere: true, does: escape },
  { key: "/", name: "to the message", does: () => goTo(address()) },
  { key: "?", name: "this list", does: () => showKeys(shortcuts) },
  { alt: true, key: "N", code: "KeyN", name: "new conversation", does: () => goTo("#chat") },
  { alt: true, key: "C", code: "KeyC", name: "chat", does: () => goTo(address()) },
  { alt: true, key: "Q", code: "KeyQ", name: "questions about a document", does: () => (location.hash = "#questions") },
  { alt: true, key: "A", code: "KeyA", name: "attach a text file", does: () => byId("attach-file").click() },
  { alt: true, key: "R", code: "KeyR", name: "answer again", does: () => chat.regenerate() },
  { alt: true, key: "M", code: "KeyM", name: "edit your last message", does: () => chat.edit() },
  { alt: true, key: "S", code: "KeyS", name: "settings of this conversation", does: settings },
  { alt: true, key: "L", code: "KeyL", name: "list of conversations", does: () => (toggle("sidebar"), byId("new-conversation").focus()) },
  { alt: true, key: "P", code: "KeyP", name: "figures", does: () => toggle("panel") },
  { alt: true, key: "T", code: "KeyT", name: "colours", does: colours },
];

async function begin() {
  const pictures = { "toggle-sidebar": "menu", "open-settings": "settings", "open-keys": "keys", "switch-theme": "theme", "toggle-panel": "panel", attach: "attach", send: "send", stop: "stop" };
  for (const [id, name] of Object.entries(pictures)) {
    const button = byId(id);
    button.title ||= button.getAttribute("aria-label");
    button.append(icon(name));
  }
  nameTheme(theme());
  toggle("sidebar", innerWidth >= 900);
  toggle("panel", innerWidth >= 1200);
  byId("toggle-sidebar").addEventListener("click", () => toggle("sidebar"));
  byId("toggle-panel").addEventListener("click", () => toggle("panel"));
  byId("open-settings").addEventListener("click", settings);
  byId("open-keys").addEventListener("click", () => showKeys(shortcuts));
  byId("switch-theme").addEventListener("click", colours);
  listen(shortcuts);
  onDrop(byId("drop"), (files) => (byId("view-chat").hidden ? questions.take(files[0]) : composer.attach(files)));
  onKeyNeeded((isWrong) =>
    asked("This server needs a key", {
      text: isWrong ? "The server does not know this key." : "Whoever runs the server has it. It is kept until this tab is closed.",
      label: "API key",
      kind: "password",
      action: "Use this key",
    }),
  );
  byId("not-kept").hidden = await store.open();
  chat.addEventListener("change", () => {
    server.watch(Boolean(chat.run));
    follow();
  });
  await route();
  addEventListener("hashchange", route);
  try {
    await server.load();
  } catch (error) {
    await told("The server cannot be asked", error.message);
  }
  byId("model").textContent = server.model;
  byId("welcome").replaceChildren(...welcome(server));
  panel.render();
  await sidebar.render();
}

begin();
