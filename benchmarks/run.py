"""`make bench`: measures what the door costs, prints a table, and writes build/bench.json."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, report, subjects
from benchmarks.machine import CannotMeasure
from benchmarks.measurements import ALL, Plan, Row
from benchmarks.tokens import Purse
from doorward.cli.process import raise_file_limit

RESULT = machine.ROOT / "build" / "bench.json"


def main() -> int:
    options = _options()
    plan = Plan(options.pairs, options.seconds, options.warm_up)
    raise_file_limit()
    about = {**machine.description(), "pairs": plan.pairs, "seconds": plan.seconds, "warm_up": plan.warm_up}
    try:
        rows = _measured(options.only or list(ALL), plan)
    except CannotMeasure as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report.write(RESULT, about, rows)
    print(report.table(about, rows))
    print(f"written to {RESULT.relative_to(machine.ROOT)}")
    return 1 if options.strict and any(row.met is False for row in rows) else 0


def _measured(names: list[str], plan: Plan) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        purse = Purse(Path(folder))
        with subjects.fast_auth(purse.key_set) as auth:
            for name in names:
                began = time.monotonic()
                _say(f"{name}: {(ALL[name].__doc__ or '').strip()}")
                rows.extend(ALL[name](plan, auth, purse, lambda text: _say(f"    {text}")))
                _say(f"    {time.monotonic() - began:.0f} s")
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=plan.pairs, help="A B pairs of each ratio")
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of one run, its warm-up not counted")
    parser.add_argument("--warm-up", type=float, default=plan.warm_up, help="seconds before each run that do not count")
    parser.add_argument("--only", action="append", choices=list(ALL), help="just this one; may be repeated")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
