"""The result: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.measurements import Row

VERDICTS = {True: "met", False: "missed", None: ""}


def write(path: Path, about: Mapping[str, object], rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": about, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


def table(about: Mapping[str, object], rows: Sequence[Row]) -> str:
    """Everything as Markdown tables."""
    measured = [row for row in rows if row.unit != "us"]
    steps = [row for row in rows if row.unit == "us"]
    parts = [
        machine_line(about),
        aligned(_measured(measured)) if measured else "",
        aligned(_steps(steps)) if steps else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine_line(about: Mapping[str, object]) -> str:
    pinned = "server and generator each on a core of its own" if about["pinned"] else "not pinned: expect noise"
    busy = f"load average at the start {about['load_before']}"
    return f"\n{about['processor']}, {about['system']}, Python {about['python']}; {pinned}; {busy}"


def _measured(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["measured", "median", "of the pairs", "goal", "", "with the door", "beside it"]]
    for row in rows:
        low, high = (min(row.samples), max(row.samples)) if row.samples else (row.value, row.value)
        value, spread = f"{row.value:.2f} {row.unit}", f"{low:.2f} - {high:.2f}"
        door, base = _side(row, "door"), _side(row, "base")
        beside = f"{row.details['beside']}: {base}" if base else ""
        lines.append([row.name, value, spread, row.goal or "", VERDICTS[row.met], door, beside])
    return lines


def _side(row: Row, side: str) -> str:
    rate, cpu, memory = (row.details.get(f"{side}_{key}") for key in ("per_second", "cpu_us", "kib"))
    if rate is not None:
        return f"{rate}/s, {cpu} us CPU each"
    return f"{memory} KiB" if memory is not None else ""


def _steps(rows: Sequence[Row]) -> list[list[str]]:
    kinds = list(dict.fromkeys(str(row.details["kind"]) for row in rows))
    steps = list(dict.fromkeys(str(row.details["step"]) for row in rows))
    micros = {(str(row.details["step"]), str(row.details["kind"])): row.value for row in rows}
    lines = [["microseconds in", *kinds]]
    lines += [[step, *(_micros(micros.get((step, kind))) for kind in kinds)] for step in steps]
    sums = (sum(value for (_, own), value in micros.items() if own == kind) for kind in kinds)
    return [*lines, ["all", *(_micros(value) for value in sums)]]


def _micros(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    head, *body = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))
