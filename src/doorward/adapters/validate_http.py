"""`POST /auth/validate`: asks the auth service about one token, once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import msgspec

from doorward.adapters.http_status import failure_of
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpAnswer, HttpTransport
from doorward.core.answer import Invalid, Valid, parse_answer
from doorward.core.deadline import Deadline

_BASIC_CHALLENGE = re.compile(r"(?:^|,)\s*basic(?:\s|,|$)", re.IGNORECASE)


class HttpValidator:
    """A `Validator` over HTTP.

    Args:
        url: of the endpoint.
        audience: sent along; the service checks it against the token's.
        traceparent: gives the W3C trace context of the current decision, or `None`.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        url: str,
        audience: str,
        credential: ServiceCredential,
        caps: Caps,
        traceparent: Callable[[], str | None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._url = url
        self._audience = audience
        self._headers = {"Accept": "application/json", "Content-Type": "application/json", **credential.headers()}
        self._caps = caps
        self._traceparent = traceparent
        self._wall = wall

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        """Ask once; see `runtime.ports.Validator`.

        Raises:
            BackendError: could not ask. `Throttled` and `ServiceCredentialRefused` have rules of their own.

        Cancellation: the connection is cut.
        """
        answer = await self._transport.request(
            "POST",
            self._url,
            headers=self._request_headers(deadline),
            body=msgspec.json.encode({"token": token, "audience": self._audience}),
            deadline=deadline,
            caps=self._caps,
        )
        if answer.status == 200:
            return parse_answer(answer.body)
        if answer.status == 401 and _is_about_the_token(answer):
            return Invalid("invalid_token")
        raise failure_of(answer, self._wall)

    def _request_headers(self, deadline: Deadline) -> dict[str, str]:
        left_ms = int(deadline.remaining(asyncio.get_running_loop().time()) * 1000)
        headers = {**self._headers, "x-envoy-expected-rq-timeout-ms": str(left_ms)}
        trace = self._traceparent() if self._traceparent else None
        if trace is not None:
            headers["traceparent"] = trace
        return headers


def _is_about_the_token(answer: HttpAnswer) -> bool:
    """A 401 speaks about the user's token only if it says so, and does not ask for *our* credential."""
    if any(_BASIC_CHALLENGE.search(value) for value in answer.headers.getall("WWW-Authenticate", ())):
        return False
    try:
        content = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and content.get("error") == "invalid_token"
