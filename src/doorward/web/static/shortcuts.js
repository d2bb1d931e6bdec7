/** The keyboard. What is here is listed in the dialog that `?` opens. */

const WRITING = "input, textarea, select, [contenteditable]";

/** What a key asks for, or null: `search`, `new`, `rename`, `help`, `message` or `escape`. Pure. */
export function shortcut({ key, ctrlKey, metaKey, shiftKey, altKey, writing }) {
  const command = (ctrlKey || metaKey) && !altKey;
  if (key === "Escape") return "escape";
  if (command && !shiftKey && key.toLowerCase() === "k") return "search";
  if (command && shiftKey && key.toLowerCase() === "o") return "new";
  if (key === "F2") return "rename";
  if (writing || ctrlKey || metaKey || altKey) return null;
  if (key === "?") return "help";
  return key === "/" ? "message" : null;
}

/** Whether the keys go into a text. */
export const isWriting = (target) => target instanceof Element && target.closest(WRITING) !== null;
