// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** `12,345` */
export function count(n) {
  return WHOLE.format(n);
}

/** `0.0154`, `12.3`: three digits that count. */
export function figure(n) {
  return Math.abs(n) >= 1000 ? WHOLE.format(n) : SHORT.format(n);
}

/** `3.2 MiB` */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${SHORT.format(n)} ${units[unit]}`;
}

/** `8 s`, `2 min 5 s`, `1 h 3 min` */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** `93.4 %` */
export function percent(share) {
  return `${SHORT.format(share * 100)} %`;
}

/** `today 14:03`, or the date. */
export function when(time) {
  const date = new Date(time);
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return date.toDateString() === new Date().toDateString() ? clock : `${date.toLocaleDateString()} ${clock}`;
}
