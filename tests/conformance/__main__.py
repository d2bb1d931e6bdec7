"""`python -m tests.conformance`: what servers make of WebSocket frames, right and wrong, with the door and without it.

Prints the table of docs/reference/websocket.md; `--write` puts it there. Exit status 1 if a server with the door does worse in
any case than the one without.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.conformance.cases import every_case
from tests.conformance.page import PAGE, table, with_table
from tests.conformance.subjects import Verdicts, sites, verdicts, worse


async def measured() -> Verdicts:
    with tempfile.TemporaryDirectory() as folder:
        async with sites(Path(folder)) as running:
            return await verdicts(every_case(), running)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    write = parser.parse_args().write
    seen = asyncio.run(measured())
    print(table(seen))
    if write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(seen)), encoding="utf-8")
    for each in worse(seen):
        print(f"worse: {each}", file=sys.stderr)
    return 1 if worse(seen) else 0


if __name__ == "__main__":
    sys.exit(main())
