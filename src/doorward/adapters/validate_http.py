"""`POST /auth/validate`: asks the auth service about one token, once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from doorward.adapters.http_status import failure_of
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpAnswer, HttpTransport
from doorward.core.answer import Fields, Invalid, Valid, parse_answer
from doorward.core.deadline import Deadline
from doorward.core.unverified import expected_audience

_BASIC_CHALLENGE = re.compile(r"(?:^|,)\s*basic(?:\s|,|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Manner:
    """How another service wants to be asked.

    Attributes:
        method: GET, without a body, or POST.
        token_header: the token goes in this header, after `Bearer` if it is Authorization; `None`: in the body, as `token`.
        token_cookie: the token goes in a cookie of this name instead.
        fields: where the answer says what; `None`: the contract's own words.
        invalid_statuses: what also says that the token is not good.
    """

    method: str = "POST"
    token_header: str | None = None
    token_cookie: str | None = None
    fields: Fields | None = None
    invalid_statuses: frozenset[int] = frozenset()


CONTRACT = Manner()


class HttpValidator:
    """A `Validator` over HTTP.

    Args:
        url: of the endpoint.
        audiences: those that are accepted. The one of them that the token names is sent along, for the service to check; the
            first, where it says none or cannot be read.
        audience_claim: where a JWT says its own.
        credential: our own; `None` where the service wants none.
        traceparent: gives the W3C trace context of the current decision, or `None`.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        url: str,
        audiences: Sequence[str],
        credential: ServiceCredential | None,
        caps: Caps,
        audience_claim: str = "aud",
        manner: Manner = CONTRACT,
        traceparent: Callable[[], str | None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._url = url
        self._audiences = audiences
        self._audience_claim = audience_claim
        self._manner = manner
        self._headers = {"Accept": "application/json", **(credential.headers() if credential is not None else {})}
        self._caps = caps
        self._traceparent = traceparent
        self._wall = wall

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        """Ask once; see `runtime.ports.Validator`.

        Raises:
            BackendError: could not ask. `Throttled` and `ServiceCredentialRefused` have rules of their own.

        Cancellation: the connection is cut.
        """
        headers, body = self._question(token)
        answer = await self._transport.request(
            self._manner.method,
            self._url,
            headers=self._request_headers(deadline) | headers,
            body=body,
            deadline=deadline,
            caps=self._caps,
        )
        if answer.status == 200:
            return parse_answer(answer.body, self._manner.fields)
        if answer.status in self._manner.invalid_statuses or (answer.status == 401 and _is_about_the_token(answer)):
            return Invalid("invalid_token")
        raise failure_of(answer, self._wall)

    def _question(self, token: str) -> tuple[dict[str, str], bytes | None]:
        """The token, where the service looks for it."""
        manner = self._manner
        if manner.token_cookie is not None:
            return {"Cookie": f"{manner.token_cookie}={token}"}, None
        if manner.token_header is not None:
            is_bearer = manner.token_header.lower() == "authorization"
            return {manner.token_header: f"Bearer {token}" if is_bearer else token}, None
        audience = expected_audience(token, self._audiences, self._audience_claim)
        body = msgspec.json.encode({"token": token, "audience": audience})
        return {"Content-Type": "application/json"}, body

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
