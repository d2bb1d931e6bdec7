/**
 * The one place where HTML becomes nodes, and only what `/api/render` of our own origin made: sanitised there by an
 * allow-list. The Content-Security-Policy admits this one policy by its name, and no script that stands in a text.
 */

const policy = globalThis.trustedTypes?.createPolicy("doorward-html", { createHTML: (html) => html }) ?? { createHTML: (html) => html };

/** The top-level elements of rendered Markdown, without the line ends between the elements of a list or a table. */
export function elementsOf(html) {
  const template = document.createElement("template");
  template.innerHTML = policy.createHTML(html);
  for (const parent of template.content.querySelectorAll("ul, ol, blockquote, table, thead, tbody, tr")) {
    for (const node of [...parent.childNodes]) if (node.nodeType === Node.TEXT_NODE) node.remove();
  }
  return [...template.content.children];
}

const serializer = new XMLSerializer();

/** What an element is, as text: two with the same look the same. */
export const keyOf = (element) => serializer.serializeToString(element);

/**
 * Make `held` look like `fresh`, touching only what differs, so that a selection, the focus and a scrolled box outlive it.
 * `fresh` is used up.
 */
export function become(held, fresh) {
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, index) => {
    const old = held.childNodes[index];
    if (old === undefined) held.append(node);
    else if (bothText(old, node)) write(old, node.data);
    else if (old.cloneNode().isEqualNode(node.cloneNode())) become(old, node);
    else old.replaceWith(node);
  });
  while (held.childNodes.length > wanted.length) held.lastChild.remove();
}

const bothText = (one, other) => one.nodeType === Node.TEXT_NODE && other.nodeType === Node.TEXT_NODE;

/** Words that are added leave a selection in those before them alone. */
function write(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
