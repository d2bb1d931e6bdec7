"""A command on a terminal of its own, and somebody who types and reads."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.cli_support import environment

PATIENCE_SECONDS = 40.0
ROWS, COLUMNS = 40, 120
CTRL_C, CTRL_D = "\x03", "\x04"
_MOVES = re.compile(r"\x1b\[\d*[AK]|\r(?!\n)")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[>=]|\r")


class Terminal:
    """What the command prints, and its keyboard."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self._master = master
        self._raw = b""
        self._read_up_to = 0
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._take)

    @property
    def text(self) -> str:
        """All that was printed, without the terminal's escapes. What is drawn again is there again, on lines of its own."""
        return _ESCAPES.sub("", _MOVES.sub("\n", self._raw.decode(errors="replace")))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def enter(self, line: str) -> None:
        self.type(f"{line}\r")

    async def expect(self, pattern: str) -> re.Match[str]:
        """Wait until this is printed, behind what was expected before."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (found := re.compile(pattern).search(self.text, self._read_up_to)) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{pattern!r} never came; there was {self.text[self._read_up_to :]!r}") from None
        self._read_up_to = found.end()
        return found

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _take(self) -> None:
        piece = b""
        with suppress(OSError):  # the other end is closed
            piece = os.read(self._master, 65_536)
        if not piece:
            asyncio.get_running_loop().remove_reader(self._master)
        self._raw += piece
        self._news.set()


@asynccontextmanager
async def terminal(*arguments: str, cwd: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[Terminal]:
    """`doorward ...` on a terminal."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = environment(settings or {}) | {"TERM": "xterm", "COLUMNS": str(COLUMNS)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", *arguments,
        cwd=cwd,
        env=env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(process, master)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        shown.close()
