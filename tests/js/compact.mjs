/** AG-UI's own `compactEvents`: stdin is a JSON array of runs (arrays of events), stdout the same runs compacted. */

import { compactEvents } from "@ag-ui/client";
import { text } from "node:stream/consumers";

const runs = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(runs.map((run) => compactEvents(run))));
