"""The whole HTTP responses that the server itself gives, where no application has the request (yet)."""

from __future__ import annotations

import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from doorward.core.verdict import Code, Deny, Row, Source, Unavailable, row_of


def _problem(status: int, title: str, code: Code | None, headers: bytes = b"") -> bytes:
    """A whole HTTP response with problem details (RFC 9457), after which the connection is closed."""
    kind = f"https://doorward.dev/problems/{code.lower().replace('_', '-')}" if code else "about:blank"
    content = {"type": kind, "title": title, "status": status} | ({"code": code} if code else {})
    body = json.dumps(content).encode()
    return (
        STATUS_LINE[status]
        + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        + headers
        + b"\r\n"
        + body
    )


def _of_row(row: Row, headers: bytes = b"") -> bytes:
    return _problem(row.http or 503, row.situation.capitalize(), row.code, headers)


TOO_LARGE = _of_row(row_of(Deny(Code.HEADERS_TOO_LARGE, Source.ADMIT)))
RESTARTING = _of_row(row_of(Unavailable(Code.RESTARTING, Source.DRAIN)), b"retry-after: 1\r\n")
MALFORMED = _problem(400, "This is not a valid HTTP request", None)
