// Light, dark, or as the system has it. Runs before the first paint.

const KEY = "lossy-theme";
const CHOICES = ["system", "light", "dark"];

/** What was chosen. */
export function theme() {
  const saved = read();
  return CHOICES.includes(saved) ? saved : "system";
}

/** Takes the next choice, and returns it. */
export function nextTheme() {
  const next = CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length];
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // A browser that keeps nothing has the colours until the page is closed.
  }
  apply(next);
  return next;
}

function read() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return document.documentElement.dataset.theme ?? "system";
  }
}

function apply(choice) {
  if (choice === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = choice;
  }
}

apply(theme());
