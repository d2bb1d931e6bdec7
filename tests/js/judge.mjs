/**
 * AG-UI's own verifier as a judge: stdin is a JSON array of runs (arrays of events), stdout the JSON array of what is wrong with
 * each of them, null where nothing is.
 */

import { verifyEvents } from "@ag-ui/client";
import { EventSchemas } from "@ag-ui/core/schemas";
import { text } from "node:stream/consumers";
import { from, lastValueFrom } from "rxjs";

async function fault(events) {
  try {
    for (const event of events) EventSchemas.parse(event);
    await lastValueFrom(from(events).pipe(verifyEvents()));
    return null;
  } catch (error) {
    return String(error.message ?? error);
  }
}

const runs = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(await Promise.all(runs.map(fault))));
