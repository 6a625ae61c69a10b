// What the server says of itself.

import { get } from "./api.js";

/** How often the figures are asked for while something is computed. */
const EVERY_MS = 2000;

export class ServerFacts extends EventTarget {
  props = null;
  info = null;
  size = null;
  #timer = null;

  /** Asks for everything. */
  async load() {
    const [props, info, models] = await Promise.all([get("props"), get("server_info"), get("v1/models")]);
    Object.assign(this, { props, info, size: models.data[0]?.meta ?? null });
    this.dispatchEvent(new Event("change"));
  }

  /** Asks for what changes. */
  async refresh() {
    try {
      this.info = await get("server_info");
      this.dispatchEvent(new Event("change"));
    } catch {
      // The next answer says what is wrong.
    }
  }

  /** Asks again and again while `isOn`. */
  watch(isOn) {
    if (isOn === (this.#timer !== null)) return;
    clearInterval(this.#timer);
    this.#timer = isOn ? setInterval(() => document.hidden || this.refresh(), EVERY_MS) : null;
    if (!isOn) this.refresh();
  }

  get model() {
    return this.info?.model_id ?? "The model";
  }

  /** The settings that a request may choose, the usual one first. */
  get settings() {
    return this.props?.loss ?? [];
  }

  /** The one that a request has with these fields; null where they are not among them. */
  settingOf({ kv, positions }) {
    const [usual] = this.settings;
    if (!usual) return null;
    const wanted = [kv ?? usual.kv, positions ?? usual.positions];
    return this.settings.find((setting) => setting.kv === wanted[0] && setting.positions === wanted[1]) ?? null;
  }

  /** Tokens of a context with these fields. */
  nCtx(fields) {
    return this.settingOf(fields)?.n_ctx ?? this.info?.max_model_len ?? Infinity;
  }
}
