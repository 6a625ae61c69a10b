// The settings of a conversation: what the model is told first, how it chooses its words, which tools it may call.

import { openDialog } from "./dialogs.js";
import { el } from "./dom.js";
import { PLAIN_SETTINGS } from "./conversation.js";
import { toolsOf } from "./request.js";

const DEFAULTS = "lossy-settings";

/** Numbers, each with its name in a request, what it does, and what it may be. */
const NUMBERS = [
  { name: "temperature", label: "Temperature", hint: "0: always the most probable token", min: 0, max: 100, step: "any" },
  { name: "top_p", label: "Top p", hint: "share of probability that is kept; 1: off", min: 0, max: 1, step: "any" },
  { name: "top_k", label: "Top k", hint: "most tokens that are kept; 0: off", min: 0, step: 1 },
  { name: "min_p", label: "Min p", hint: "least share of the best token's probability; 0: off", min: 0, max: 1, step: "any" },
  { name: "seed", label: "Seed", hint: "the same seed gives the same answer", min: 0, step: 1 },
  { name: "max_tokens", label: "Most tokens", hint: "of an answer", min: 1, step: 1 },
];

/** What new conversations begin with. */
export function defaults() {
  try {
    const saved = JSON.parse(localStorage.getItem(DEFAULTS) ?? "{}");
    return Object.fromEntries(Object.entries(saved).filter(([name]) => name in PLAIN_SETTINGS));
  } catch {
    return {};
  }
}

/** Lets the user change settings; null: they stay. */
export function editSettings(settings, server) {
  return openDialog("Settings of this conversation", (close) => new Form(settings, server, close).element, { isWide: true });
}

class Form {
  #inputs = new Map();
  #error = el("p", { class: "error", role: "alert", hidden: true });

  constructor(settings, server, close) {
    const isDefault = el("input", { type: "checkbox", id: "set-default" });
    const usual = server.props?.default_generation_settings ?? {};
    const submit = (event) => {
      event.preventDefault();
      const read = this.#read();
      if (!read) return;
      if (isDefault.checked) this.#saveDefaults(read);
      close(read);
    };
    this.element = el(
      "form",
      { class: "settings", onsubmit: submit, novalidate: true },
      this.#field("system", "System prompt", "what the model is told before everything else", el("textarea", { rows: "4", value: settings.system, autofocus: true })),
      el("fieldset", { class: "grid" }, el("legend", { text: "Sampling" }), NUMBERS.map((number) => this.#number(number, settings[number.name], usual[number.name]))),
      this.#choices(settings, server),
      this.#field("tools", "Tools", "a list of functions in JSON; you answer the calls yourself", el("textarea", { rows: "6", value: settings.tools, spellcheck: "false", class: "mono", placeholder: '[{"name": "get_weather", "description": "…", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]' })),
      el("p", { class: "check" }, isDefault, el("label", { for: "set-default", text: "New conversations begin with these" })),
      this.#error,
      el("div", { class: "dialog-end" }, el("button", { type: "button", class: "button quiet", text: "Cancel", onclick: () => close() }), el("button", { class: "button", text: "Save" })),
    );
  }

  #field(name, label, hint, input) {
    input.id = `set-${name}`;
    input.setAttribute("aria-describedby", `hint-${name}`);
    this.#inputs.set(name, input);
    return el("div", { class: "field" }, el("label", { for: input.id, text: label }), input, el("p", { class: "hint", id: `hint-${name}`, text: hint }));
  }

  #number({ name, label, hint, min, max, step }, value, usual) {
    const placeholder = usual === undefined ? "as the server has it" : `${Number(usual.toPrecision(6))}`;
    return this.#field(name, label, hint, el("input", { type: "number", inputmode: "decimal", min, max, step, placeholder, value: value ?? "" }));
  }

  /** The KV scheme and the position map, where the operator allows more than one. */
  #choices(settings, server) {
    const values = (name) => [...new Set(server.settings.map((setting) => setting[name]))];
    const choice = (name, label, hint) => {
      const known = values(name);
      if (known.length < 2) return null;
      const options = [["", `${known[0]} (usual)`], ...known.slice(1).map((value) => [value, value])];
      const select = el("select", {}, options.map(([value, text]) => el("option", { value, text })));
      select.value = settings[name] ?? "";
      return this.#field(name, label, hint, select);
    };
    const made = [choice("kv", "KV cache", "how keys and values are stored"), choice("positions", "Positions", "how positions are told to the model")].filter(Boolean);
    return made.length ? el("fieldset", { class: "grid" }, el("legend", { text: "Setting" }), made) : null;
  }

  /** What the form says; null where something is wrong, which is said. */
  #read() {
    const read = { ...PLAIN_SETTINGS };
    const refuse = (name, problem) => {
      this.#error.textContent = problem;
      this.#error.hidden = false;
      const input = this.#inputs.get(name);
      input.setAttribute("aria-invalid", "true");
      input.focus();
      return null;
    };
    for (const [name, input] of this.#inputs) {
      input.removeAttribute("aria-invalid");
      if (input.type === "number") {
        const number = NUMBERS.find((known) => known.name === name);
        if (!input.validity.valid) return refuse(name, `${number.label}: ${input.validationMessage}`);
        read[name] = input.value === "" ? null : Number(input.value);
      } else {
        read[name] = input.tagName === "SELECT" ? input.value || null : input.value;
      }
    }
    try {
      toolsOf(read.tools);
    } catch (error) {
      return refuse("tools", error.message);
    }
    return read;
  }

  #saveDefaults(settings) {
    try {
      localStorage.setItem(DEFAULTS, JSON.stringify(settings));
    } catch {
      // A browser that keeps nothing has them for this conversation only.
    }
  }
}
