/** What a block of an answer gets besides its text: a frame that scrolls, and a button that copies. */

import { button, make } from "./dom.js";

const TOLD_MS = 1_600;

/** The block as it stands in the page. Each runs in the direction of its own language, code from left to right. */
export function adorned(node) {
  if (node.localName === "pre") return codeFrame(node);
  const block = node.localName === "table" ? scrolling(make("div", "table-frame", node), "Table") : node;
  block.dir = "auto";
  return block;
}

/** What of a block stands outside of its children: where two have the same, one can become the other in its place. */
export function framed(node) {
  if (node.localName === "pre") return `pre ${languageOf(node)}`;
  return node.localName === "ol" ? `ol ${node.start}` : node.localName;
}

const languageOf = (pre) => /language-(\S+)/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";

function codeFrame(pre) {
  const language = languageOf(pre);
  const head = make("div", "code-head", make("span", "code-language", language), copyButton("Copy code", () => pre.textContent));
  return make("div", "code-frame", head, scrolling(pre, language ? `Code, ${language}` : "Code"));
}

/** A box that can be scrolled by keyboard has to take the focus, and a name. */
function scrolling(node, label) {
  node.tabIndex = 0;
  node.setAttribute("role", "region");
  node.setAttribute("aria-label", label);
  return node;
}

/** A button that copies `text()`, and says whether that worked. */
export function copyButton(label, text) {
  const node = button("quiet small", "Copy", async () => {
    node.textContent = await copied(text()) ? "Copied" : "Not copied";
    setTimeout(() => { node.textContent = "Copy"; }, TOLD_MS);
  });
  node.setAttribute("aria-label", label);
  return node;
}

/** The clipboard API needs https or this machine; the old way works everywhere. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedTheOldWay(text);
  }
}

function copiedTheOldWay(text) {
  const held = document.activeElement;
  const box = make("textarea", "visually-hidden");
  box.value = text;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  held?.focus();
  return done;
}
