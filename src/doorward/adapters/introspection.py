"""Token introspection (RFC 7662): asks an OAuth 2.0 authorization server about one token, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlencode

from doorward.adapters.http_status import failure_of
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.core.answer import INTROSPECTION, Fields, Invalid, Valid, json_object, parse_answer
from doorward.core.deadline import Deadline
from doorward.errors import BadAnswer


class IntrospectionValidator:
    """A `Validator` over RFC 7662.

    Args:
        url: of the endpoint.
        issuer, audiences: whose tokens, and for whom; an answer that names others is a no.
        fields: where the answer says what.
        traceparent: gives the W3C trace context of the current decision, or `None`.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        url: str,
        issuer: str,
        audiences: frozenset[str],
        credential: ServiceCredential | None,
        caps: Caps,
        fields: Fields = INTROSPECTION,
        traceparent: Callable[[], str | None] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._url = url
        self._issuer = issuer
        self._audiences = audiences
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            **(credential.client_headers() if credential is not None else {}),
        }
        self._caps = caps
        self._fields = fields
        self._traceparent = traceparent
        self._wall = wall

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        """Ask once; see `runtime.ports.Validator`.

        Raises:
            BackendError: could not ask. A 401 is about our own credential (RFC 7662, section 2.3).

        Cancellation: the connection is cut.
        """
        trace = self._traceparent() if self._traceparent else None
        answer = await self._transport.request(
            "POST",
            self._url,
            headers=self._headers | ({"traceparent": trace} if trace is not None else {}),
            body=urlencode({"token": token, "token_type_hint": "access_token"}).encode(),
            deadline=deadline,
            caps=self._caps,
        )
        if answer.status != 200:
            raise failure_of(answer, self._wall)
        found = parse_answer(answer.body, self._fields)
        if isinstance(found, Valid) and not self._is_for_us(json_object(answer.body)):
            return Invalid("another issuer or audience")
        return found

    def _is_for_us(self, content: dict[str, object]) -> bool:
        """Both are optional members of the answer.

        Raises:
            BadAnswer: one of them is there, and is nothing that could name somebody.
        """
        issuer, audience = content.get("iss"), content.get("aud")
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list | None) or not all(isinstance(each, str) for each in named or ()):
            raise BadAnswer("`aud` is neither a string nor a list of strings")
        if not isinstance(issuer, str | None):
            raise BadAnswer("`iss` is not a string")
        return issuer in (None, self._issuer) and (named is None or not self._audiences.isdisjoint(named))
