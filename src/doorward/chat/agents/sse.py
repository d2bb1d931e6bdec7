"""Server-sent events, as far as an agent sends them: the `data` of each event, within a bound. Pure.

Source: HTML Living Standard, 9.2.6, "Interpreting an event stream".
"""

from __future__ import annotations


class TooLong(Exception):
    """One event is longer than the bound."""


class EventStream:
    """Takes bytes in pieces of any size and gives whole events.

    Args:
        max_bytes: of one event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes.

        Raises:
            TooLong: the event that is under way can not be taken.
        """
        self._rest += piece
        if b"\n" not in piece and b"\r" not in piece:
            self._check(len(self._rest))
            return []
        lines = self._rest.splitlines(keepends=True)
        self._rest = bytearray() if lines[-1].endswith(b"\n") else lines.pop()  # a lone CR may be half of a CRLF
        events = [event for line in lines if (event := self._take(bytes(line.rstrip(b"\r\n")))) is not None]
        self._check(len(self._rest))
        return events

    def _take(self, line: bytes) -> bytes | None:
        if not line:
            event, self._lines, self._size = b"\n".join(self._lines), [], 0
            return event or None
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._check(len(value))
            self._lines.append(value)
            self._size += len(value) + 1
        return None

    def _check(self, more: int) -> None:
        if self._size + more > self._max_bytes:
            raise TooLong
