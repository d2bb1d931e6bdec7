/** A title that becomes a box for as long as it is edited. */

import { make } from "./dom.js";

const LONGEST = 200;

/**
 * Put a box in the place of `node`. Enter and leaving it save, Escape does not; a title that is empty or the same is
 * not saved. `save(title)` is called once or never, then `done()`.
 */
export function editInPlace(node, { value, label, save, done }) {
  const box = make("input", "rename");
  box.value = value;
  box.maxLength = LONGEST;
  box.dir = "auto";
  box.setAttribute("aria-label", label);
  let open = true;

  function close(keep) {
    if (!open) return;
    open = false;
    const title = box.value.trim();
    const focused = document.activeElement === box;
    box.replaceWith(node);
    if (keep && title !== "" && title !== value) save(title);
    done({ focused });
  }

  box.addEventListener("blur", () => close(true));
  box.addEventListener("keydown", (event) => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    event.stopPropagation();
    close(event.key === "Enter");
  });
  node.replaceWith(box);
  box.focus();
  box.select();
}
