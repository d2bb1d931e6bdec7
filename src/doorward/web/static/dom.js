/** The few things that every part of the page does with nodes. */

export const byId = (id) => document.getElementById(id);

/** An element with a class (empty for none) and children; a string is always text. */
export function make(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** A button that is no form's. */
export function button(className, words, onClick) {
  const node = make("button", className, words);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

/** Touches the node only where the text is another: a live region says nothing twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Listeners that are taken away together. */
export class Listeners {
  #undo = [];

  on(target, type, listener, options) {
    target.addEventListener(type, listener, options);
    this.#undo.push(() => target.removeEventListener(type, listener, options));
  }

  dispose() {
    for (const undo of this.#undo.splice(0)) undo();
  }
}
