"""As much of HTTP/1.1 as a fault needs: where a head ends, how long a body is."""

from __future__ import annotations

import re

HEAD_BYTES = 64 * 1024
"""What has no end of a head by then is taken for something else than HTTP."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)


def first_header_end(answer: bytes) -> int:
    """Where the first header line ends; half of the answer if it is no HTTP."""
    status_end = answer.find(b"\r\n")
    header_end = answer.find(b"\r\n", status_end + 2)
    return header_end + 2 if 0 <= status_end < header_end else len(answer) // 2


def half_answer_length(answer: bytes) -> int | None:
    """The length of the head and half the body; `None` while the head is incomplete.

    Without a length, half of what is there; without a body, half the head.
    """
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end:
        return None if len(answer) < HEAD_BYTES else len(answer) // 2
    found = _CONTENT_LENGTH.search(head + b"\r\n")
    length = int(found.group(1)) if found else len(rest)
    return len(head) + len(end) + length // 2 if length else len(head) // 2


def is_complete_request(inbox: bytes | bytearray) -> bool:
    """Whether head and body are there, or more than we would wait for."""
    head, end, rest = inbox.partition(b"\r\n\r\n")
    if not end:
        return len(inbox) >= HEAD_BYTES
    found = _CONTENT_LENGTH.search(head + b"\r\n")
    return len(rest) >= (int(found.group(1)) if found else 0) or len(inbox) >= HEAD_BYTES
