// A row of the table: a question that can be changed, and its answer.

import { el, iconButton } from "./dom.js";
import { figure } from "./format.js";
import { KINDS, entriesOf, linesOf, reading } from "./questions.js";

/** Probabilities that are shown at once. */
const MOST_SHOWN = 6;

export class QuestionRow {
  /** `changed` is called when the question has changed, `remove` when it is to go. */
  constructor(question, { number, changed, remove }) {
    this.question = question;
    const set = (name) => (event) => {
      question[name] = event.target.value;
      this.#changed(changed);
    };
    const named = (label) => ({ "aria-label": `${label} of question ${number}` });
    const type = el("select", { ...named("Type"), onchange: set("type") }, Object.entries(KINDS).map(([value, { label }]) => el("option", { value, text: label })));
    type.value = question.type;
    const name = el("input", { ...named("Name"), value: question.name, placeholder: "optional", oninput: set("name") });
    this.focusable = el("textarea", { ...named("Text"), rows: "2", value: question.instructions, oninput: set("instructions") });
    this.entries = el("textarea", {
      ...named("Answers"),
      rows: "2",
      value: linesOf(question.entries),
      oninput: (event) => {
        question.entries = entriesOf(event.target.value);
        this.#changed(changed);
      },
    });
    this.result = el("td", { class: "result" });
    this.mass = el("td", { class: "number" });
    const cells = [type, name, this.focusable, this.entries].map((input) => el("td", {}, input));
    const drop = iconButton("close", `Remove question ${number}`, remove);
    this.element = el("tr", {}, cells, this.result, this.mass, el("td", {}, drop));
    this.#showEntries();
    this.renderAnswer();
  }

  /** An answer to other words is none. */
  #changed(changed) {
    this.question.answer = null;
    this.#showEntries();
    this.renderAnswer();
    changed();
  }

  #showEntries() {
    const { type, entries } = this.question;
    const { field } = KINDS[type];
    this.entries.disabled = !field;
    this.entries.placeholder = field ? "one a line" : "true, false";
    this.entries.rows = field ? Math.min(6, Math.max(2, entries.length)) : 1;
  }

  renderAnswer() {
    const { answer, type } = this.question;
    this.mass.textContent = answer ? figure(answer.allowed_mass) : "";
    if (!answer) {
      this.result.replaceChildren();
      return;
    }
    const { said, probabilities } = reading(answer);
    const shown = type === "score" ? probabilities : [...probabilities].sort((a, b) => b.probability - a.probability);
    const bar = (probability) => {
      const filled = el("span", { class: "bar-filled" });
      // The policy forbids styles in markup; this is none.
      filled.style.width = `${(probability * 100).toFixed(1)}%`;
      return el("span", { class: "bar-track", "aria-hidden": "true" }, filled);
    };
    const item = ({ value, probability }) => el("li", {}, el("span", { class: "value", text: String(value) }), bar(probability), el("span", { class: "number", text: probability.toFixed(3) }));
    const rest = shown.length - MOST_SHOWN;
    this.result.replaceChildren(
      el("strong", { text: type === "score" ? figure(said) : said }),
      el("ul", { class: "probabilities" }, shown.slice(0, MOST_SHOWN).map(item), rest > 0 ? el("li", { class: "muted", text: `and ${rest} more` }) : null),
    );
  }
}
