"""aiohttp's client protocol with two bounds that it lacks.

*Before the answer*: aiohttp reads any number of 1xx answers and parses each one; here at most `MAX_HEAD_BYTES` may come before
the final head is complete. *After the call*: a TLS connection that is closed politely waits up to 30 s for the peer's
`close_notify`, outside of any pool limit; here a connection that is given up is cut.
"""

from __future__ import annotations

from typing import Any

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES = 32 * 1024


class BoundedResponseHandler(ResponseHandler):
    """One connection; aiohttp calls `set_response_params` at the start of each request."""

    _head_bytes_left: int | None = MAX_HEAD_BYTES
    """`None` once the final head is complete."""

    def close(self) -> None:
        self.abort()

    def set_response_params(self, **params: Any) -> None:
        self._head_bytes_left = MAX_HEAD_BYTES
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        final = not 100 <= data[0].code <= 199 or data[0].code == 101
        if self._head_bytes_left is None:
            self.abort()  # nobody asked: a second answer must never be taken for the next request's
        elif final:
            self._head_bytes_left = None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        left = self._head_bytes_left
        if left is None:
            super().data_received(data)
            return
        super().data_received(data[:left])
        if self._head_bytes_left is None:
            if len(data) > left:
                super().data_received(data[left:])
        elif len(data) >= left:
            self.set_exception(HttpProcessingError(code=400, message="too much before the answer"))
            if self.transport is not None:
                self.transport.abort()  # not self.abort(): that would forget the exception
        else:
            self._head_bytes_left = left - len(data)
