"""Files that only we may read or write: they hold what a later start will believe. All of it blocks; run it on a `Worker`."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_dir(path: Path) -> None:
    """Make it, 0700, if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def distrust_dir(path: Path) -> str | None:
    """Why files in this directory cannot be trusted, or `None`. Reading by others is harmless: the files are private."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        return f"{path} belongs to uid {status.st_uid}; make it ours: chown -R {os.geteuid()} {path}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by others; run: chmod 700 {path}"
    return None


def distrust_file(status: os.stat_result, path: Path) -> str | None:
    """Why this file cannot be trusted, or `None`."""
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file; move it away"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to uid {status.st_uid}, not to us ({os.geteuid()}); move it away, or chown it"
    if status.st_mode & OTHERS:
        return f"{path} has mode {stat.S_IMODE(status.st_mode):04o}; if nobody changed it, run: chmod 600 {path}"
    return None


def read_private(path: Path, *, max_bytes: int) -> bytes:
    """Read a file of ours.

    Raises:
        FileNotFoundError: it is not there.
        PermissionError: it cannot be trusted; the text says why and how to mend it.
        OSError: it cannot be read.
    """
    reason = distrust_dir(path.parent)
    if reason:
        raise PermissionError(reason)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        reason = distrust_file(status, path)
        if reason or status.st_size > max_bytes:
            raise PermissionError(reason or f"{path} is longer than {max_bytes} bytes; move it away")
        return file.read(max_bytes)


def replace_private(path: Path, content: bytes) -> None:
    """Write a new file, 0600, and put it in place of the old one: after a crash there is the old or the new, never a part.

    Raises:
        OSError: it could not be written; the old one is untouched.
    """
    make_private_dir(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_dir(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Write a new file, 0600, unless there is one: of two processes that come together the first one's content stands.

    Raises:
        OSError: it could not be written.
    """
    make_private_dir(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
    _sync_dir(path.parent)


def _sync_dir(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
