"""`doorward doctor`: what is wrong with the connection to the auth service, in plain words, in under five seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from doorward.adapters.logs import configure
from doorward.cli import diagnosis
from doorward.cli.checkup import Checkup
from doorward.cli.diagnosis import Finding, Status, Step, skipped
from doorward.cli.output import AsJson, ConfigFile, console, print_json
from doorward.cli.process import leave_within, run_process
from doorward.cli.process_age import process_age
from doorward.config import Settings
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError

TOTAL_SECONDS = 4.0
"""For everything, the start of Python included; closing what is open comes on top."""

HARD_SECONDS = 4.8
"""Then the process ends, whatever holds it up."""

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.SKIPPED: "dim"}


def doctor(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the connection to the auth service, and the mend.

    The first line is the verdict. Then every step with what it took and its mend: settings, DNS, TCP, TLS, our credential, the
    contract of /auth/validate (both asked about a random token), health, key set, clocks, revocation feed. A door that runs at
    serve.host and serve.port is asked whether it can tell its clients apart. It changes nothing, needs no running door, and answers
    in under five seconds, whatever hangs.

        doorward doctor
        doorward doctor --json | jq -r .verdict

    --json: `verdict`, `exit_code`, `url`, `duration_ms`, and for each of `steps` its `step`, `status` (ok, warn, fail, skipped),
    `duration_ms`, `sentence`, `mend` (or null) and `facts`. Exit codes: 0 fine, warnings included; 1 trouble; 2 the settings cannot
    work.
    """
    began = time.monotonic() - process_age()
    leave_within(began + HARD_SECONDS - time.monotonic(), 1)
    writer = configure(level="warning", style="auto")

    settings = _load(config)
    url = settings.auth.url if isinstance(settings, Settings) else None

    async def main() -> int:
        findings = await _examine(settings, Deadline(began + TOTAL_SECONDS))
        code = diagnosis.exit_code(findings)
        if as_json:
            print_json(_content(url, findings, code, time.monotonic() - began))
        else:
            _show(url, findings)
        return code

    try:
        sys.exit(run_process(main))
    finally:
        writer.aclose()


async def _examine(settings: Settings | ConfigError, deadline: Deadline) -> Sequence[Finding]:
    if isinstance(settings, Settings):
        try:
            return await Checkup(settings, deadline=deadline).run()
        except ConfigError as error:
            settings = error
    return [diagnosis.bad_settings(settings), *(skipped(step) for step in Step if step is not Step.SETTINGS)]


def _load(config: Path | None) -> Settings | ConfigError:
    try:
        return Settings.load(config)
    except ConfigError as error:
        return error


def _content(url: str | None, findings: Sequence[Finding], code: int, seconds: float) -> dict[str, Any]:
    return {
        "verdict": diagnosis.verdict(findings, url),
        "exit_code": code,
        "url": url,
        "duration_ms": round(seconds * 1000, 1),
        "steps": [
            {
                "step": finding.step.value,
                "status": finding.status.value,
                "duration_ms": round(finding.seconds * 1000, 1),
                "sentence": f"{finding.sentence}.",
                "mend": finding.mend,
                "facts": dict(finding.facts),
            }
            for finding in findings
        ],
    }


def _show(url: str | None, findings: Sequence[Finding]) -> None:
    worst = next(
        (status for status in (Status.FAIL, Status.WARN) if any(one.status is status for one in findings)), Status.OK
    )
    out = console()
    out.print(Text(diagnosis.verdict(findings, url), style=_STYLES[worst]), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step")
    table.add_column("")
    table.add_column("ms", justify="right")
    table.add_column("what was found")
    for finding in findings:
        sentence = Text(f"{finding.sentence}." + (f"\nMend: {finding.mend}." if finding.mend else ""))
        status = Text(finding.status.value, style=_STYLES[finding.status])
        table.add_row(finding.step.value, status, f"{finding.seconds * 1000:.0f}" if finding.seconds else "", sentence)
    out.print()
    out.print(table)
