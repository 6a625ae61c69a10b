// How fast something goes, and how long it still takes.

/** The last so many milliseconds say how fast: reading slows down as a text gets longer. */
const WINDOW_MS = 8000;

export class Estimate {
  #samples = [];

  /** `done` things were done at `time`, milliseconds. */
  add(time, done) {
    const last = this.#samples.at(-1);
    if (last && done < last.done) this.#samples = [];
    if (last && done === last.done) return;
    this.#samples.push({ time, done });
    while (this.#samples.length > 2 && time - this.#samples[1].time > WINDOW_MS) this.#samples.shift();
  }

  /** Things a second; null: nothing is known yet. */
  rate() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || last.time <= first.time) return null;
    return ((last.done - first.done) / (last.time - first.time)) * 1000;
  }

  /** Seconds until all are done; null: nothing is known yet. */
  left(total) {
    const rate = this.rate();
    return rate ? (total - this.#samples.at(-1).done) / rate : null;
  }
}
