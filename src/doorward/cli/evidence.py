"""The files that a drill leaves: known to be writable before it begins, and never lost at its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from doorward.errors import UsageError


def check_writable(*files: Path | None) -> None:
    """Before anything is played. What was not there before is not there afterwards either.

    Raises:
        UsageError: a file cannot be written, or two of them are the same.
    """
    named = [file for file in files if file is not None]
    if len({file.absolute() for file in named}) < len(named):
        raise UsageError(f"{named[0]} is named twice: one file cannot hold both")
    for file in named:
        was_there = file.exists()
        try:
            with file.open("ab"):
                pass
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}; nothing was played") from error
        if not was_there:
            file.unlink()


def keep(contents: Mapping[Path, Callable[[], bytes]]) -> None:
    """Write all of them, each made when its turn comes. What cannot go where it should is kept in the folder for temporary files.

    Raises:
        UsageError: so it was with at least one of them; it says where it is now.
    """
    troubles = []
    for file, make in contents.items():
        content = make()
        try:
            file.write_bytes(content)
        except OSError as error:
            troubles.append(f"{file} could not be written ({error.strerror}); {_kept_elsewhere(file, content)}")
    if troubles:
        raise UsageError("; ".join(troubles))


def _kept_elsewhere(file: Path, content: bytes) -> str:
    with suppress(OSError):
        descriptor, name = tempfile.mkstemp(prefix="doorward-", suffix=f"-{file.name}")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        return f"it is kept in {name}"
    return "and there is no room elsewhere"
