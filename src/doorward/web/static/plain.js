/**
 * A little formatting without the server, and without a line of HTML: text becomes blocks, blocks become nodes by
 * `textContent`. It shows the first words of an answer at once, and all of it where the server cannot be asked to render.
 *
 * Knows paragraphs, headings, lists, quotes, tables, fenced code; inside a line `code`, **strong**, *emphasis* and links.
 * Whatever it does not know stays as it was written, so nothing is ever lost and nothing is ever run.
 */

import { make } from "./dom.js";

const FENCE = /^\s*```\s*([\w+#.-]{0,32})/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBER = /^\s*\d{1,3}[.)]\s+(.*)$/;
const ROW = /^\s*\|(.*)\|\s*$/;
const RULE = /^\s*\|?[\s:|-]+\|[\s:|-]*$/;
const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|\[([^[\]\n]{1,300})\]\(((?:https?:\/\/|mailto:)[^\s()]{1,2000})\)/g;

/** The blocks of a text, each `{type, lines}`, code with its `language`, headings with their `level`; the lines are without their markers. */
export function blocks(text) {
  const found = [];
  let fenced = null;
  for (const line of text.split("\n")) {
    if (fenced) {
      if (FENCE.test(line)) fenced = null;
      else fenced.lines.push(line);
    } else if (FENCE.test(line)) {
      fenced = { type: "code", lines: [], language: FENCE.exec(line)[1] };
      found.push(fenced);
    } else {
      place(found, line);
    }
  }
  return found.filter((block) => block.type !== "gap");
}

function place(found, line) {
  const last = found.at(-1);
  const [type, content, level] = kindOf(line);
  if (type === "gap") found.push({ type, lines: [] });
  else if (type === "heading") found.push({ type, lines: [content], level });
  else if (last?.type === type) last.lines.push(content);
  else if (type === "text" && (last?.type === "bullets" || last?.type === "numbers") && /^\s{2,}/.test(line)) last.lines.push(`${last.lines.pop()} ${content.trim()}`);
  else if (!(type === "table" && RULE.test(line))) found.push({ type, lines: [content] });
}

function kindOf(line) {
  if (line.trim() === "") return ["gap", ""];
  const heading = HEADING.exec(line);
  if (heading) return ["heading", heading[2], heading[1].length];
  const quote = QUOTE.exec(line);
  if (quote) return ["quote", quote[1]];
  const bullet = BULLET.exec(line);
  if (bullet) return ["bullets", bullet[1]];
  const number = NUMBER.exec(line);
  if (number) return ["numbers", number[1]];
  const row = ROW.exec(line);
  return row ? ["table", row[1]] : ["text", line];
}

/** The parts of one line: `{type: "text" | "code" | "strong" | "em" | "a", text}`, links with their `href`. */
export function inline(line) {
  const parts = [];
  let at = 0;
  for (const match of line.matchAll(INLINE)) {
    if (match.index > at) parts.push({ type: "text", text: line.slice(at, match.index) });
    const [whole, code, strong, , label, href] = match;
    if (href) parts.push({ type: "a", text: label, href });
    else if (code) parts.push({ type: "code", text: whole.slice(1, -1) });
    else if (strong) parts.push({ type: "strong", text: whole.slice(2, -2) });
    else parts.push({ type: "em", text: whole.slice(1, -1) });
    at = match.index + whole.length;
  }
  if (at < line.length) parts.push({ type: "text", text: line.slice(at) });
  return parts;
}

const element = (name, ...children) => make(name, "", ...children);

function line(text) {
  return inline(text).map(({ type, text: words, href }) => {
    if (type === "text") return words;
    return href ? Object.assign(element("a", words), { href, rel: "noopener noreferrer nofollow", target: "_blank" }) : element(type, words);
  });
}

/** Lines of one paragraph. */
const lines = (texts) => texts.flatMap((text, index) => (index === 0 ? line(text) : [document.createElement("br"), ...line(text)]));

function table(lines) {
  const rows = lines.filter((text) => !RULE.test(`|${text}|`)).map((text) => text.split("|").map((cell) => cell.trim()));
  const [head, ...body] = rows.map((cells, index) => element("tr", ...cells.map((cell) => element(index === 0 ? "th" : "td", ...line(cell)))));
  return element("table", element("thead", head ?? ""), element("tbody", ...body));
}

function nodeOf(block) {
  switch (block.type) {
    case "heading": return element(`h${Math.min(block.level + 2, 6)}`, ...line(block.lines[0]));
    case "quote": return element("blockquote", element("p", ...lines(block.lines)));
    case "bullets": return element("ul", ...block.lines.map((text) => element("li", ...line(text))));
    case "numbers": return element("ol", ...block.lines.map((text) => element("li", ...line(text))));
    case "code": return element("pre", make("code", block.language && `language-${block.language}`, block.lines.map((text) => `${text}\n`).join("")));
    case "table": return table(block.lines);
    default: return element("p", ...lines(block.lines));
  }
}

/** The nodes of a text, each with a key that is the same while the block is the same. */
export function plainBlocks(text) {
  return blocks(text).map((block) => ({ key: `plain:${JSON.stringify(block)}`, element: () => nodeOf(block) }));
}
