/** The two dialogs: "really delete?", and the list of shortcuts. The browser keeps the focus inside, and Esc closes. */

import { byId, setText } from "./dom.js";

/** Resolves to whether somebody said yes. */
export function confirmDelete(title) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), `“${title}” and everything in it will be gone, on all your devices.`);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true });
  });
}

export function showShortcuts() {
  if (!byId("shortcuts").open) byId("shortcuts").showModal();
}

/** Whether a dialog has the page for itself. */
export const dialogOpen = () => document.querySelector("dialog[open]") !== null;
