// The view of questions: one document, a table of questions, and what the model thinks of each.

import { confirmed } from "./dialogs.js";
import { announce, download, el, icon, iconButton } from "./dom.js";
import { readDocument } from "./documents.js";
import { decide } from "./decide.js";
import { bytes, count, duration, figure } from "./format.js";
import { answersAsCsv, asRequest, newQuestion, problemOf, readQuestions } from "./questions.js";
import { QuestionRow } from "./question-row.js";
import * as store from "./store.js";

/** The one table that the browser keeps. */
const SHEET = "current";
/** After so long a pause in writing, the table is saved. */
const PAUSE_MS = 600;

export class QuestionsView {
  #sheet = { id: SHEET, document: null, questions: [newQuestion()], kv: null, positions: null };
  #rows = [];
  #abort = null;
  #loaded = null;
  #saving = null;

  constructor(place, server) {
    Object.assign(this, { place, server });
  }

  /** Called when the view is shown. */
  async shown() {
    this.#loaded ??= this.#load();
    await this.#loaded;
    this.#renderDocument();
  }

  async #load() {
    this.#sheet = (await store.get("sheets", SHEET)) ?? this.#sheet;
    this.#make();
  }

  #make() {
    const title = el("h2", { id: "questions-title", text: "Questions about a document" });
    const lead = el("p", { class: "muted lead", text: "The document is read once. Each question is answered from there with probabilities: no text is generated." });
    this.file = el("input", { type: "file", hidden: true, onchange: () => this.#picked(this.file, (file) => this.take(file)) });
    this.questionsFile = el("input", { type: "file", accept: ".csv,.json", hidden: true, onchange: () => this.#picked(this.questionsFile, (file) => this.#import(file)) });
    this.documentPlace = el("div", { class: "document" });
    this.body = el("tbody");
    const heads = ["Type", "Name", "Question", "Answers", "Result", "Allowed mass", "Remove"];
    const table = el("table", { class: "questions" }, el("caption", { class: "hidden-text", text: "Questions and their answers" }), el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col", text: head })))), this.body);
    const button = (text, onclick, style = "quiet") => el("button", { type: "button", class: `button ${style}`, text, onclick });
    this.buttons = {
      add: button("Add a question", () => this.#add()),
      import: button("Import questions", () => this.questionsFile.click()),
      run: button("Ask all", () => this.run(), ""),
      stop: button("Stop", () => this.stop(), ""),
      export: button("Export answers as CSV", () => this.#export()),
      clear: button("Remove all", () => this.#clear()),
    };
    this.error = el("p", { class: "error", role: "alert", hidden: true });
    this.progress = el("progress", { "aria-label": "Progress" });
    this.words = el("p", { class: "muted" });
    this.progressPlace = el("div", { class: "progress", hidden: true }, this.progress, this.words);
    const hint = el("p", { class: "hint", text: "Answers of a choice or a score: one a line, as “billing = money matters”. A score's levels begin with the lowest. A file of questions has the columns type, name, instructions, choices, levels, or is JSON as /v1/decisions reads it." });
    const { add, import: load, run, stop, export: save, clear } = this.buttons;
    this.place.replaceChildren(
      el("div", { class: "questions-page" }, title, lead, this.documentPlace, this.file, this.questionsFile, this.#settingChoice(), el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table of questions" }, table), hint, this.error, this.progressPlace, el("div", { class: "actions" }, run, stop, add, load, save, clear)),
    );
    this.#renderRows();
    this.#renderButtons();
  }

  /** The setting, where the operator allows more than one. */
  #settingChoice() {
    const { settings } = this.server;
    if (settings.length < 2) return null;
    const name = ({ kv, positions }) => (positions === settings[0].positions ? kv : `${kv}, ${positions}`);
    const select = el("select", { id: "questions-setting" }, settings.map((setting, index) => el("option", { value: index, text: name(setting) })));
    const shown = settings.findIndex(({ kv, positions }) => kv === (this.#sheet.kv ?? settings[0].kv) && positions === (this.#sheet.positions ?? settings[0].positions));
    select.value = Math.max(0, shown);
    select.addEventListener("change", () => {
      const { kv, positions } = settings[select.value];
      Object.assign(this.#sheet, { kv, positions });
      this.#forget();
    });
    return el("p", { class: "inline-field" }, el("label", { for: "questions-setting", text: "KV cache" }), select);
  }

  #picked(input, act) {
    const [file] = input.files;
    input.value = "";
    if (file) act(file);
  }

  #say(problem) {
    this.error.textContent = problem ?? "";
    this.error.hidden = !problem;
  }

  /** Takes a document in place of the one that is there. */
  async take(file) {
    await this.shown();
    this.#say(null);
    this.documentPlace.replaceChildren(el("p", { class: "muted", text: `${file.name} is read …` }));
    try {
      this.#sheet.document = await readDocument(file);
      this.#forget();
    } catch (error) {
      this.#say(error.message);
    }
    this.#renderDocument();
    // The button that had the focus is another one now.
    if (globalThis.document.activeElement === globalThis.document.body) this.documentPlace.querySelector("button")?.focus();
  }

  #renderDocument() {
    const { document } = this.#sheet;
    const choose = el("button", { type: "button", class: "button quiet", text: document ? "Choose another document" : "Choose a document", onclick: () => this.file.click() });
    if (!document) {
      this.documentPlace.replaceChildren(el("p", { text: "Drop a text file here, or choose one." }), choose);
      return;
    }
    const most = this.server.nCtx(this.#sheet);
    const isTooLong = document.tokens > most;
    const words = `${bytes(document.size)}, ${count(document.tokens)} of ${count(most)} tokens`;
    this.documentPlace.replaceChildren(el("p", { class: "attachment" }, icon("file"), el("span", { class: "name", text: document.name }), el("span", { class: "muted", text: words })), choose);
    if (isTooLong) this.#say(`The document does not fit: it has ${count(document.tokens)} tokens, and the context ${count(most)}. Take a shorter one, or start the server with a larger -c.`);
  }

  #renderRows() {
    this.#rows = this.#sheet.questions.map((question, index) => this.#row(question, index));
    this.body.replaceChildren(...this.#rows.map(({ element }) => element));
  }

  #row(question, index) {
    return new QuestionRow(question, {
      number: index + 1,
      changed: () => this.#saveSoon(),
      remove: () => {
        const at = this.#sheet.questions.indexOf(question);
        this.#sheet.questions.splice(at, 1);
        this.#renderRows();
        this.#saveSoon();
        (this.#rows[Math.min(at, this.#rows.length - 1)]?.focusable ?? this.buttons.add).focus();
      },
    });
  }

  #renderButtons() {
    const isRunning = Boolean(this.#abort);
    this.buttons.run.hidden = isRunning;
    this.buttons.stop.hidden = !isRunning;
    for (const name of ["add", "import", "clear"]) this.buttons[name].disabled = isRunning;
    this.body.inert = isRunning;
    this.progressPlace.hidden = !isRunning;
  }

  #add() {
    this.#sheet.questions.push(newQuestion());
    this.#renderRows();
    this.#rows.at(-1).focusable.focus();
    this.#saveSoon();
  }

  async #clear() {
    if (!(await confirmed("Remove all questions?", "Questions and answers are erased from this browser. This cannot be taken back.", "Remove all"))) return;
    this.#sheet.questions = [newQuestion()];
    this.#renderRows();
    this.#saveSoon();
  }

  async #import(file) {
    this.#say(null);
    try {
      const read = readQuestions(file.name, await file.text());
      // Rows in which nothing was written make room.
      this.#sheet.questions = [...this.#sheet.questions.filter(({ instructions }) => instructions.trim()), ...read];
      this.#renderRows();
      this.#saveSoon();
      announce(`${read.length} questions imported.`);
    } catch (error) {
      this.#say(error.message);
    }
  }

  #export() {
    const name = (this.#sheet.document?.name ?? "answers").replace(/\.[^.]*$/, "");
    download(`${name}-answers.csv`, "text/csv", answersAsCsv(this.#sheet.questions));
  }

  /** Answers to another document, or with another setting, are none. */
  #forget() {
    for (const question of this.#sheet.questions) question.answer = null;
    this.#renderRows();
    this.#saveSoon();
  }

  #saveSoon() {
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => store.put("sheets", this.#sheet), PAUSE_MS);
  }

  stop() {
    this.#abort?.abort();
  }

  /** What has to be done before the questions can be asked; null: nothing. */
  #obstacle() {
    const { document, questions } = this.#sheet;
    if (!document) return "There is no document yet: drop a text file, or choose one.";
    const most = this.server.nCtx(this.#sheet);
    if (document.tokens > most) return `The document does not fit: it has ${count(document.tokens)} tokens, and the context ${count(most)}.`;
    const wrong = questions.findIndex((question) => problemOf(question));
    if (wrong >= 0) {
      this.#rows[wrong].focusable.focus();
      return `Question ${wrong + 1} ${problemOf(questions[wrong])}.`;
    }
    return questions.length ? null : "There are no questions yet.";
  }

  /** Asks all questions. */
  async run() {
    if (this.#abort) return;
    const obstacle = this.#obstacle();
    this.#say(obstacle);
    if (obstacle) return;
    const { document, questions, kv, positions } = this.#sheet;
    this.#abort = new AbortController();
    this.#forget();
    this.#renderButtons();
    this.buttons.stop.focus();
    try {
      await decide({
        document,
        questions: questions.map(asRequest),
        fields: { ...(kv && { kv }), ...(positions && { positions }) },
        signal: this.#abort.signal,
        take: (index, answer) => {
          questions[index].answer = answer;
          this.#rows[index].renderAnswer();
        },
        tell: (progress) => this.#tell(progress),
      });
      announce(`All ${questions.length} questions are answered.`);
    } catch (error) {
      if (error.name !== "AbortError") this.#say(error.message);
      else announce("Stopped.");
    }
    const hadFocus = globalThis.document.activeElement === this.buttons.stop;
    this.#abort = null;
    this.#renderButtons();
    if (hadFocus) this.buttons.run.focus();
    this.#saveSoon();
  }

  #tell({ phase, done, total, rate, left }) {
    const unit = phase === "reading" ? "tokens" : "questions";
    const words = [`${count(done)} of ${count(total)} ${unit} ${phase === "reading" ? "read" : "answered"}`];
    if (rate) words.push(`${figure(rate)} ${unit}/s`);
    if (left !== null && done < total) words.push(`${duration(left)} left`);
    this.progress.max = total;
    this.progress.value = done;
    this.words.textContent = words.join(" · ");
  }
}
