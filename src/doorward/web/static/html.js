/**
 * The one place where HTML becomes nodes, and only what `/api/render` of our own origin made: sanitised there by an
 * allow-list. The Content-Security-Policy admits this one policy by its name, and no script that stands in a text.
 */

const policy = globalThis.trustedTypes?.createPolicy("doorward-html", { createHTML: (html) => html }) ?? { createHTML: (html) => html };

/** The top-level elements of rendered Markdown. */
export function elementsOf(html) {
  const template = document.createElement("template");
  template.innerHTML = policy.createHTML(html);
  return [...template.content.children];
}

const serializer = new XMLSerializer();

/** What an element is, as text: two with the same look the same. */
export const keyOf = (element) => serializer.serializeToString(element);
