/**
 * What to show of Markdown whose end is still being written, so that nothing flickers: marks that may yet mean something
 * else wait for the rest of their line, and what was opened within a line is closed. Pure.
 */

const MARKS = /^[\s>#=|:~`_*+-]*$|^\s*\d{1,9}[.)]?\s*$/;
const FENCES = /^ {0,3}(?:```|~~~)/gm;
const BEGUN_FENCE = /^ {0,3}(?:`{1,2}$|~{1,2}$|```|~~~)/;
const BEGUN_LINK = /\[([^[\]\n]{1,300})\]\([^()\s]{0,2000}$/;
const ROW = /^\s*\|/;

const lastLineAt = (text) => text.lastIndexOf("\n") + 1;

/** `{length, text}`: the first `length` characters of what was given, as the `text` that stands for them. */
export function presentable(text) {
  const at = lastLineAt(text);
  const line = text.slice(at);
  const above = text.slice(0, at);
  if (BEGUN_FENCE.test(line)) return asItIs(above);
  if (isCode(above)) return asItIs(text);
  const kept = withoutTableHead(MARKS.test(line) ? above : text);
  return { length: kept.length, text: closed(kept.replace(BEGUN_LINK, "$1")) };
}

const asItIs = (text) => ({ length: text.length, text });

const isCode = (text) => (text.match(FENCES)?.length ?? 0) % 2 === 1;

/** The first row of a table is a row only with the line of dashes below it. */
function withoutTableHead(text) {
  const body = text.endsWith("\n") ? text.slice(0, -1) : text;
  const at = lastLineAt(body);
  const above = body.slice(0, Math.max(at - 1, 0));
  return ROW.test(body.slice(at)) && !ROW.test(above.slice(lastLineAt(above))) ? text.slice(0, at) : text;
}

/** Closes **strong** and `code` that the last line has opened. */
function closed(text) {
  let inCode = false;
  let inStrong = false;
  for (const [mark] of text.slice(lastLineAt(text)).matchAll(/`|\*\*/g)) {
    if (mark === "`") inCode = !inCode;
    else if (!inCode) inStrong = !inStrong;
  }
  const bare = text.trimEnd();
  if (inCode) return bare.endsWith("`") ? closed(bare.slice(0, -1)) : `${bare}\`${inStrong ? "**" : ""}`;
  if (inStrong) return bare.endsWith("**") ? bare.slice(0, -2) : `${bare.replace(/\*$/, "")}**`;
  return text;
}
