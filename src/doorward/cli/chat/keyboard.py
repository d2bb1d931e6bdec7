"""What somebody types, one line at a time, without holding up the event loop; and Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import queue
import signal
import sys
import termios
import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_CLEAR_LINE = "\r\x1b[2K"


class Sort(Enum):
    """What is asked for: decides whether it is shown while it is typed, and whether the up-arrow brings it back."""

    QUESTION = "question"
    CHOICE = "choice"
    SECRET = "secret"  # noqa: S105 - a word


@dataclass(frozen=True, slots=True)
class _Prompt:
    text: str
    sort: Sort
    answer: asyncio.Future[str | None]


class Keyboard:
    """Reads lines on a thread of its own: Python can edit a line in no other way.

    While entered, Ctrl-C calls `on_interrupt`, which may be replaced. The thread is a daemon: one that still waits for a line does
    not keep the process.
    """

    def __init__(self) -> None:
        self.on_interrupt: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._prompts: queue.SimpleQueue[_Prompt] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open: _Prompt | None = None
        self._unclaimed: _Prompt | None = None
        """It was finished while nobody waited for it."""
        self._is_awaited = False
        self._terminal: list[Any] | None = None
        self._readline = _readline()

    def __enter__(self) -> Self:
        with contextlib.suppress(termios.error, OSError):
            self._terminal = termios.tcgetattr(sys.stdin.fileno())
        self._loop.add_signal_handler(signal.SIGINT, lambda: self.on_interrupt())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_signal_handler(signal.SIGINT)
        if self._open is not None:
            print(flush=True)
        if self._terminal is not None:
            with contextlib.suppress(termios.error, OSError):  # the thread may have left it without an echo
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._terminal)

    @property
    def is_open(self) -> bool:
        """A line is being typed, whether or not anybody still waits for it."""
        return self._open is not None

    async def ask(self, prompt: str, sort: Sort = Sort.QUESTION) -> str | None:
        """The next line; `None`: Ctrl-D. One at a time.

        A line that was begun for somebody who no longer waits for it cannot be taken back. Who asks for the same sort next gets it;
        for another sort its end is waited for, and it is dropped.

        Cancellation: the line stays open.
        """
        while self._open is not None and self._open.sort is not sort:
            await asyncio.shield(self._open.answer)
        opened, self._unclaimed = self._open or self._unclaimed, None
        if opened is None or opened.sort is not sort:
            opened = self._begin(prompt, sort)
        elif not opened.answer.done():
            self._write_prompt(opened)
        self._is_awaited = True
        try:
            return await asyncio.shield(opened.answer)
        finally:
            self._is_awaited = False

    def _begin(self, prompt: str, sort: Sort) -> _Prompt:
        opened = self._open = _Prompt(prompt, sort, self._loop.create_future())
        self._prompts.put(opened)
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="doorward-keyboard", daemon=True)
            self._thread.start()
        return opened

    def above(self, show: Callable[[], None]) -> None:
        """Print something above the line that is being typed."""
        if self._open is None:
            show()
            return
        sys.stdout.write(_CLEAR_LINE)
        sys.stdout.flush()
        show()
        self._write_prompt(self._open)

    def _write_prompt(self, opened: _Prompt) -> None:
        typed = (
            self._readline.get_line_buffer() if self._readline is not None and opened.sort is not Sort.SECRET else ""
        )
        sys.stdout.write(_CLEAR_LINE + opened.text + typed)
        sys.stdout.flush()

    def _read(self) -> None:
        while True:
            asked = self._prompts.get()
            try:
                line: str | None = getpass.getpass(asked.text) if asked.sort is Sort.SECRET else input(asked.text)
            except EOFError:
                print()  # the terminal shows nothing for Ctrl-D
                line = None
            except (OSError, ValueError):  # letters that are none: UnicodeDecodeError is a ValueError
                line = ""
            self._forget(asked.sort)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._typed, asked, line)

    def _typed(self, asked: _Prompt, line: str | None) -> None:
        self._open = None
        self._unclaimed = None if self._is_awaited else asked
        asked.answer.set_result(line)

    def _forget(self, sort: Sort) -> None:
        """Only questions are worth being brought back by the up-arrow."""
        if (
            self._readline is not None
            and sort is Sort.CHOICE
            and (length := self._readline.get_current_history_length())
        ):
            self._readline.remove_history_item(length - 1)


def _readline() -> Any:
    try:
        import readline
    except ImportError:
        return None
    return readline
