/**
 * Moments worth measuring, as the browser's own performance marks, of each name the newest: `doorward:run-started`,
 * `doorward:first-words`, `doorward:run-ended`, `doorward:cut`, `doorward:dialling`. See docs/reference/benchmarks.md.
 */

/** This happened now. */
export function mark(name, detail = null) {
  performance.clearMarks(`doorward:${name}`);
  performance.mark(`doorward:${name}`, { detail });
}

/** What was changed just now has come to the screen: marked after the frame that paints it. */
export function markPainted(name, detail = null) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); mark(name, detail); };
    port2.postMessage(null);
  });
}
