"""`doorward doctor`: what is wrong with the connection to the auth service, in plain words, in under five seconds."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from doorward.config import AUTH, OneIssuer, Settings
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError

TOTAL_SECONDS = 4.0
"""For everything, the start of Python included; closing what is open comes on top."""

HARD_SECONDS = 4.8
"""Then the process ends, whatever holds it up."""

_STYLES = {Status.SKIPPED: "dim", Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
"""From best to worst."""


def doctor(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the connection to the auth service, and the mend.

    The first line is the verdict. Then every step with what it took and its mend: settings, DNS, TCP, TLS, our credential, the
    contract of /auth/validate (both asked about a random token), health, key set, clocks, revocation feed; of each issuer, where
    there are several. A door that runs at serve.host and serve.port is asked whether it can tell its clients apart. It changes
    nothing, needs no running door, and answers in under five seconds, whatever hangs.

        doorward doctor
        doorward doctor --json | jq -r .verdict

    --json: `verdict`, `exit_code`, `duration_ms`, and for each of `issuers` its `issuer`, `url`, `verdict`, and for each of `steps`
    its `step`, `status` (ok, warn, fail, skipped), `duration_ms`, `sentence`, `mend` (or null) and `facts`. Exit codes: 0 fine,
    warnings included; 1 trouble; 2 the settings cannot work.
    """
    began = time.monotonic() - process_age()
    leave_within(began + HARD_SECONDS - time.monotonic(), 1)
    writer = configure(level="warning", style="auto")

    settings = _load(config)

    async def main() -> int:
        reports = await _examine(settings, Deadline(began + TOTAL_SECONDS))
        if as_json:
            print_json(_content(reports, time.monotonic() - began))
        else:
            _show(reports)
        return _exit_code(reports)

    try:
        sys.exit(run_process(main))
    finally:
        writer.aclose()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out about the auth service of one issuer."""

    issuer: str
    url: str | None
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        return diagnosis.verdict(self.findings, self.url)

    @property
    def worst(self) -> Status:
        found = {finding.status for finding in self.findings}
        return next((status for status in (Status.FAIL, Status.WARN) if status in found), Status.OK)


async def _examine(settings: Settings | ConfigError, deadline: Deadline) -> Sequence[Report]:
    """All of them at once: one that hangs takes no time of the others."""
    if isinstance(settings, ConfigError):
        return [Report(AUTH, None, _unusable(settings))]
    first, *others = settings.each_issuer()
    looks = (
        _examined(first, deadline, asks_door=True),
        *(_examined(each, deadline, asks_door=False) for each in others),
    )
    return await asyncio.gather(*looks)


async def _examined(issuer: OneIssuer, deadline: Deadline, *, asks_door: bool) -> Report:
    try:
        findings = await Checkup(issuer, deadline=deadline, asks_door=asks_door).run()
    except ConfigError as error:
        findings = _unusable(error)
    return Report(issuer.name, issuer.settings.auth.url, findings)


def _unusable(error: ConfigError) -> Sequence[Finding]:
    return [diagnosis.bad_settings(error), *(skipped(step) for step in Step if step is not Step.SETTINGS)]


def _exit_code(reports: Sequence[Report]) -> int:
    return max(diagnosis.exit_code(report.findings) for report in reports)


def _verdict(reports: Sequence[Report]) -> str:
    """Of the first that is worst; of the only one, where there is one."""
    order = list(_STYLES)
    worst = max(reports, key=lambda report: order.index(report.worst))
    if len(reports) == 1:
        return worst.verdict
    if worst.worst is Status.OK:
        return (
            f"All is well: the auth services of all {len(reports)} issuers answer, know us, and keep to the contract."
        )
    return f"{worst.issuer}: {worst.verdict}"


def _load(config: Path | None) -> Settings | ConfigError:
    try:
        return Settings.load(config)
    except ConfigError as error:
        return error


def _content(reports: Sequence[Report], seconds: float) -> dict[str, Any]:
    return {
        "verdict": _verdict(reports),
        "exit_code": _exit_code(reports),
        "duration_ms": round(seconds * 1000, 1),
        "issuers": [
            {
                "issuer": report.issuer,
                "url": report.url,
                "verdict": report.verdict,
                "steps": [
                    {
                        "step": finding.step.value,
                        "status": finding.status.value,
                        "duration_ms": round(finding.seconds * 1000, 1),
                        "sentence": f"{finding.sentence}.",
                        "mend": finding.mend,
                        "facts": dict(finding.facts),
                    }
                    for finding in report.findings
                ],
            }
            for report in reports
        ],
    }


def _show(reports: Sequence[Report]) -> None:
    order = list(_STYLES)
    worst = max((report.worst for report in reports), key=order.index)
    out = console()
    out.print(Text(_verdict(reports), style=_STYLES[worst]), soft_wrap=True)
    for report in reports:
        out.print()
        if len(reports) > 1:
            out.print(Text(f"{report.issuer}: {report.verdict}", style=_STYLES[report.worst]), soft_wrap=True)
        out.print(_table(report.findings))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step")
    table.add_column("")
    table.add_column("ms", justify="right")
    table.add_column("what was found")
    for finding in findings:
        sentence = Text(f"{finding.sentence}." + (f"\nMend: {finding.mend}." if finding.mend else ""))
        status = Text(finding.status.value, style=_STYLES[finding.status])
        table.add_row(finding.step.value, status, f"{finding.seconds * 1000:.0f}" if finding.seconds else "", sentence)
    return table
