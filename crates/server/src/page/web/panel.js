// The figures: what is served, what it costs, what the last answer took, and what the cache had of it.

import { byId, el } from "./dom.js";
import { bytes, count, figure, percent } from "./format.js";

/** Why the cache missed, in plain words; `who`: whose message it was in. */
const REASONS = {
  first_seen: () => "No earlier prompt began like this one, or only up to there.",
  messages_changed: (who) => `An earlier prompt had other words in ${who}.`,
  system_changed: () => "The system prompt is another one than before.",
  tools_changed: () => "The tools are others than before.",
  template_changed: () => "The prompt was made with another template, or with other variables for it.",
  setting_changed: () => "It was read before with another KV cache or other positions, and these share nothing.",
  evicted: () => "It was read before, but had to make room.",
  damaged: () => "It was on the disk, but damaged, and was read again.",
};

/** Why not more of a prompt was cached; null: nothing was missing. */
export function missInWords(miss) {
  if (!miss) return null;
  const hasMessage = Number.isInteger(miss.message);
  const who = hasMessage ? `message ${miss.message + 1}${miss.role ? ` (${miss.role})` : ""}` : "the prompt";
  const reason = Object.hasOwn(REASONS, miss.reason) ? REASONS[miss.reason](who) : String(miss.reason);
  return { from: `token ${count(miss.token + 1)}${hasMessage ? `, in ${who}` : ""}`, reason };
}

export class Panel {
  #place = byId("panel");

  constructor(chat, server) {
    Object.assign(this, { chat, server });
    for (const source of [chat, server]) source.addEventListener("change", () => this.render());
    chat.addEventListener("progress", () => this.#renderContext());
    this.context = el("div");
    this.rest = el("div");
    this.#place.append(this.context, this.rest);
  }

  render() {
    if (!this.server.props || !this.chat.conversation) return;
    this.#renderContext();
    const setting = this.server.settingOf(this.chat.conversation.settings);
    this.rest.replaceChildren(this.#answer(), this.#cache(setting), this.#loss(setting), this.#model());
  }

  #renderContext() {
    const { run, conversation, lastAnswer } = this.chat;
    const nCtx = this.server.nCtx(conversation.settings);
    const used = run?.progress ? run.progress.total : (lastAnswer?.usage?.total_tokens ?? null);
    const key = JSON.stringify([used, nCtx]);
    if (key === this.contextKey) return;
    this.contextKey = key;
    const isKnown = Number.isFinite(used);
    const meter = el("meter", { min: 0, max: nCtx, high: nCtx * 0.9, value: isKnown ? used : 0, "aria-label": "Context used" });
    const words = isKnown ? `${count(used)} of ${count(nCtx)} tokens` : `nothing yet of ${count(nCtx)} tokens`;
    this.context.replaceChildren(section("Context", meter, el("p", { text: words })));
  }

  #answer() {
    const answer = this.chat.lastAnswer;
    if (!answer?.timings) return section("Last answer", el("p", { class: "muted", text: "None yet." }));
    const { timings: t } = answer;
    const prompt = t.cache_n + t.prompt_n;
    const miss = missInWords(t.cache_miss);
    return section(
      "Last answer",
      rows([
        ["Prompt", `${count(prompt)} tokens`],
        ["From the cache", prompt ? `${count(t.cache_n)} (${percent(t.cache_n / prompt)})` : null],
        ["Read", t.prompt_n ? `${count(t.prompt_n)} at ${figure(t.prompt_per_second)} tokens/s` : "nothing"],
        ["Written", t.predicted_n > 1 ? `${count(t.predicted_n)} at ${figure(t.predicted_per_second)} tokens/s` : count(t.predicted_n)],
        ["Waited", t.waiting_ms >= 100 ? `${figure(t.waiting_ms / 1000)} s` : null],
        ["Cache missed", miss ? `from ${miss.from}` : "nothing"],
      ]),
      miss && el("p", { class: "why", text: miss.reason }),
    );
  }

  #cache(setting) {
    const { kv_cache_bytes: used, kv_cache_idle_bytes: idle, kv_cache_budget_bytes: budget } = this.server.info;
    return section(
      "KV cache of the server",
      rows([
        ["In use", `${bytes(used)}${Number.isFinite(budget) ? ` of ${bytes(budget)}` : ""}`],
        ["Of that, kept documents", bytes(idle)],
        ["Limit", Number.isFinite(budget) ? null : "none"],
        ["A token", setting && bytes(setting.bytes_per_token)],
        ["Bits a value", setting && figure(setting.bits_per_value)],
      ]),
    );
  }

  #loss(setting) {
    const title = "Certificate";
    if (!setting) {
      const text = "The server does not allow this conversation's setting any more: choose another one.";
      return section(title, el("p", { class: "error", text }));
    }
    const name = [["KV cache", setting.kv], ["Positions", setting.positions]];
    if (setting.status === "measured") {
      const measured = [
        ["KL divergence", `${figure(setting.kl)} ± ${figure(setting.kl_se)} nats`],
        ["Same top token", percent(setting.same_top)],
        ["Perplexity", `× ${setting.ppl_ratio.toFixed(4)}`],
        ["Measured in", `${count(setting.measured_n_ctx)} tokens`],
        ["On", setting.texts.join(", ")],
        ["Predictions", count(setting.n_scored)],
      ];
      const longer = setting.n_ctx > setting.measured_n_ctx;
      const note = longer && el("p", { class: "why", text: `Longer texts than ${count(setting.measured_n_ctx)} tokens were not measured.` });
      const command = el("details", {}, el("summary", { text: "Measure it again" }), el("pre", { class: "wide", tabindex: "0", role: "region", "aria-label": "Command" }, el("code", { text: setting.command })));
      return section(title, rows([...name, ...measured]), note || null, command);
    }
    const words = {
      exact: "Exact: nothing is lost beside the model's own cache of 16 bits.",
      "not measured": "Not measured on this model: “lossy measure” says what it costs.",
    };
    return section(title, rows(name), el("p", { class: setting.status === "exact" ? null : "why", text: words[setting.status] ?? setting.status }));
  }

  #model() {
    const { model, info, size } = this.server;
    return section(
      "Model",
      rows([
        ["Name", model],
        ["Parameters", size && `${figure(size.n_params / 1e6)} M`],
        ["Weights in memory", size && bytes(size.size)],
        ["Trained context", size && `${count(size.n_ctx_train)} tokens`],
        ["Server", `lossy ${info.version}`],
        ["Requests", `${count(info.running)} of ${count(info.max_running_requests)} run`],
      ]),
    );
  }
}

function section(title, ...parts) {
  return el("section", {}, el("h2", { text: title }), ...parts);
}

function rows(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", {}, known.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]));
}
