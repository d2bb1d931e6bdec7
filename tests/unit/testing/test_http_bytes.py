"""Just enough HTTP: heads end where they end, and what is no HTTP has a way out."""

from __future__ import annotations

import pytest

from doorward.testing.http_bytes import HEAD_BYTES, first_header_end, half_answer_length, is_complete_request

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "end"),
    [(HEAD, len(b"HTTP/1.1 200 OK\r\nServer: x\r\n")), (b"\x16\x03\x01\x00", 2), (b"HTTP/1.1 200 OK\r\nSer", 10)],
    ids=["http", "tls", "one line"],
)
def test_the_first_header_ends_with_its_line(answer: bytes, end: int) -> None:
    assert first_header_end(answer) == end


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        (HEAD + b"0123456789", len(HEAD) + 5),
        (HEAD, len(HEAD) + 5),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", 50),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 11),
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"\x16" * HEAD_BYTES, HEAD_BYTES // 2),
    ],
    ids=["length", "no body yet", "chunked", "empty", "no head yet", "no http"],
)
def test_half_an_answer_is_its_head_and_half_its_body(answer: bytes, length: int | None) -> None:
    assert half_answer_length(answer) == length


@pytest.mark.parametrize(
    ("inbox", "complete"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nCONTENT-LENGTH: 2\r\n\r\na", False),
        (b"POST / HTTP/1.1\r\nCONTENT-LENGTH: 2\r\n\r\nab", True),
        (b"\x16" * HEAD_BYTES, True),
    ],
    ids=["nothing", "half a head", "no body", "half a body", "whole", "no http"],
)
def test_a_request_is_complete_with_its_body(inbox: bytes, complete: bool) -> None:
    assert is_complete_request(inbox) is complete
