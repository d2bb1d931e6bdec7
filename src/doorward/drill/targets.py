"""The doors that are up now, in a file that Prometheus reads: so a drill can be watched, and the alert rules tried, from outside.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from doorward.errors import UsageError


class Targets:
    """Kept whole at each change, so that a reader never sees half of it. While inside, the file is there; it ends as an empty list.

    Args:
        file: read it as `file_sd_configs`. Each door has the labels `job` (which door) and `scenario`.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._doors: dict[tuple[str, str], str] = {}
        self._write()

    def up(self, job: str, scenario: str, url: str) -> None:
        """This door listens at this ws:// URL; in the place of the one before, if it was restarted."""
        self._doors[job, scenario] = url.split("/")[2]
        self._write()

    def down(self, job: str, scenario: str) -> None:
        """It has ended. No harm if it never was up."""
        with suppress(KeyError):
            del self._doors[job, scenario]
            self._write()

    def _write(self) -> None:
        groups = [
            {"targets": [address], "labels": {"job": job, "scenario": scenario}}
            for (job, scenario), address in self._doors.items()
        ]
        fresh = self._file.with_name(f".{self._file.name}.new")
        try:
            fresh.write_text(json.dumps(groups), encoding="utf-8")
            fresh.replace(self._file)
        except OSError as error:
            raise UsageError(f"{self._file}: {error.strerror}") from error
