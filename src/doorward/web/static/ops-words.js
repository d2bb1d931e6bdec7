/** Numbers and times in words, and the two ways in which this page writes into its nodes. */

export const byId = (id) => document.getElementById(id);

/** Set the text of a node; an unchanged one is left alone, so that a screen reader is not told it again. */
export function put(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

/** Keep one child for each key, in order; `make` makes one, `fill` writes into it. */
export function row(parent, keys, make, fill) {
  const had = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  keys.forEach((key, index) => {
    const node = had.get(key) ?? make(key);
    had.delete(key);
    node.dataset.key = key;
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    fill(node, index);
  });
  for (const node of had.values()) node.remove();
}

/** 0.4 ms, 12 ms, 1.95 s. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 9.95) return `${ms.toFixed(1).replace(".0", "")} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(2).replace(/\.?0+$/, "")} s`;
}

/** 8 s, 3 min, 2 h, 5 d. */
export function age(seconds) {
  if (seconds < 100) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 6_000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** 14:03:09, of wall-clock seconds. */
export function clockTime(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

export const VERDICTS = { allow: "let in", deny: "refused", unavailable: "could not ask" };
