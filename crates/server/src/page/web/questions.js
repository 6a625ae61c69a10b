// Questions with a fixed set of answers: how they are read from files, sent, and written with their answers.

import { parseCsv, writeCsv } from "./csv.js";

/** Kinds of questions: what their answers are called in a request, and how many there may be. */
export const KINDS = {
  predicate: { label: "true or not", field: null },
  choice: { label: "one of", field: "choices", key: "value", least: 2, most: 255 },
  score: { label: "score", field: "levels", key: "label", least: 2, most: 10 },
};
const COLUMNS = ["type", "name", "instructions", "choices", "levels"];

/** A question: `entries` are its choices or levels, `{value, description}`. */
export function newQuestion(fields = {}) {
  return { type: "predicate", name: "", instructions: "", entries: [], answer: null, ...fields };
}

/** What is wrong with a question; null: nothing. */
export function problemOf({ type, instructions, entries }) {
  if (!instructions.trim()) return "says nothing";
  const { field, least, most } = KINDS[type];
  if (!field) return null;
  if (entries.length < least || entries.length > most) return `has ${entries.length} ${field}, but may have ${least} to ${most}`;
  const values = entries.map(({ value }) => value);
  if (values.some((value) => value === "")) return `has ${field} without a name`;
  if (new Set(values.map(String)).size < values.length) return `has two ${field} that are the same`;
  return null;
}

/** A question as `/v1/decisions` wants it. */
export function asRequest({ type, name, instructions, entries }) {
  const { field, key } = KINDS[type];
  const entry = ({ value, description }) => ({ [key]: value, ...(description && { description }) });
  return { type, ...(name.trim() && { name: name.trim() }), instructions, ...(field && { [field]: entries.map(entry) }) };
}

/** Choices or levels as lines: `billing = money matters`. */
export function linesOf(entries) {
  return entries.map(({ value, description }) => (description ? `${value} = ${description}` : String(value))).join("\n");
}

/** And back; `separator` is `|` within a cell of a file. */
export function entriesOf(text, separator = "\n") {
  const parts = text.split(separator).map((part) => part.trim());
  return parts.filter((part) => separator !== "\n" || part).map((part) => {
    const at = part.indexOf("=");
    return at < 0 ? { value: part, description: "" } : { value: part.slice(0, at).trim(), description: part.slice(at + 1).trim() };
  });
}

/** The questions of a file, as `lossy ask` reads them: JSON or CSV, as its name says. */
export function readQuestions(name, text) {
  const extension = name.split(".").at(-1).toLowerCase();
  if (extension !== "json" && extension !== "csv") throw new Error(`${name}: questions are in a file .json or .csv`);
  const questions = extension === "json" ? ofJson(text) : ofCsv(text);
  if (!questions.length) throw new Error(`${name}: there are no questions in it`);
  return questions;
}

function ofJson(text) {
  const value = JSON.parse(text);
  const list = Array.isArray(value) ? value : value?.questions;
  if (!Array.isArray(list)) throw new Error("there is neither a list of questions nor an object with “questions”");
  return list.map((question, index) => checked(ofObject(question, `questions[${index}]`), `questions[${index}]`));
}

function ofObject(question, where) {
  const kind = Object.hasOwn(KINDS, question?.type) ? KINDS[question.type] : null;
  if (!kind) throw new Error(`${where}.type is ${JSON.stringify(question?.type)}, but may be predicate, choice or score`);
  const unknown = Object.keys(question).find((key) => !["type", "name", "instructions", kind.field].includes(key));
  if (unknown) throw new Error(`${where}.${unknown} is unknown`);
  const { name = "", instructions } = question;
  const parts = Array.isArray(instructions) ? instructions.map((part) => part?.text ?? part) : [instructions ?? ""];
  if (typeof (name ?? "") !== "string" || parts.some((part) => typeof part !== "string")) throw new Error(`${where}: name and instructions are texts`);
  const entries = kind.field ? (question[kind.field] ?? []) : [];
  if (!Array.isArray(entries)) throw new Error(`${where}.${kind.field} is no list`);
  const entry = (given) => {
    const value = given?.[kind.key];
    // A choice may be true or false, too.
    const isKnown = typeof value === "string" || (kind.key === "value" && typeof value === "boolean");
    if (!isKnown || typeof (given.description ?? "") !== "string") throw new Error(`${where}.${kind.field}: an entry has a text “${kind.key}”, and perhaps a text “description”`);
    return { value, description: given.description ?? "" };
  };
  return newQuestion({ type: question.type, name: name ?? "", instructions: parts.join("\n"), entries: entries.map(entry) });
}

function ofCsv(text) {
  const [head, ...records] = parseCsv(text);
  const columns = head?.cells.map((cell) => cell.trim()) ?? [];
  const unknown = columns.find((column) => !COLUMNS.includes(column));
  if (unknown !== undefined) throw new Error(`column “${unknown}” is unknown: there are ${COLUMNS.join(", ")}`);
  return records.map(({ line, cells }) => {
    if (cells.length !== columns.length) throw new Error(`line ${line} has ${cells.length} cells, but the first line ${columns.length}`);
    const of = Object.fromEntries(columns.map((column, index) => [column, cells[index].trim()]));
    if (!Object.hasOwn(KINDS, of.type)) throw new Error(`line ${line}: type is “${of.type ?? ""}”, but may be predicate, choice or score`);
    const { field } = KINDS[of.type];
    const other = ["choices", "levels"].find((column) => of[column] && column !== field);
    if (other) throw new Error(`line ${line}: a ${of.type} has no ${other}`);
    const entries = field && of[field] ? entriesOf(of[field], "|") : [];
    return checked(newQuestion({ type: of.type, name: of.name ?? "", instructions: of.instructions ?? "", entries }), `line ${line}`);
  });
}

function checked(question, where) {
  const problem = problemOf(question);
  if (problem) throw new Error(`${where}: the question ${problem}`);
  return question;
}

/** What an answer says, and how sure it is: `{said, confidence, probabilities: [{value, probability}]}`. */
export function reading(answer) {
  switch (answer.type) {
    case "predicate": {
      const { probability: p } = answer;
      const probabilities = [{ value: "true", probability: p }, { value: "false", probability: 1 - p }];
      return { said: p >= 0.5 ? "true" : "false", confidence: Math.max(p, 1 - p), probabilities };
    }
    case "choice":
      return { said: String(answer.choice), confidence: answer.confidence, probabilities: answer.probabilities };
    default: {
      const probabilities = answer.probabilities.map(({ label, probability }) => ({ value: label, probability }));
      return { said: answer.score, confidence: answer.confidence, probabilities };
    }
  }
}

/** The answers as CSV, with the columns that `lossy ask` writes. */
export function answersAsCsv(questions) {
  const head = ["name", "instructions", "type", "answer", "confidence", "allowed_mass", "probabilities"];
  const row = ({ name, instructions, type, answer }) => {
    if (!answer) return [name, instructions, type, null, null, null, null];
    const { said, confidence } = reading(answer);
    const both = () => ({ true: answer.probability, false: 1 - answer.probability });
    const probabilities = JSON.stringify(type === "predicate" ? both() : answer.probabilities);
    return [name, instructions, type, said, confidence, answer.allowed_mass, probabilities];
  };
  return writeCsv([head, ...questions.map(row)]);
}
