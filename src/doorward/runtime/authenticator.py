"""The pipeline: one handshake in, one verdict out, before its deadline.

    ORIGIN -> ADMIT -> EXTRACT -> ISSUER -> what that issuer's verifier does

Here is what is asked of a handshake, whoever its token is of; `verifiers.py` chooses, the rest is `verifier.py`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from doorward.core.answer import shown
from doorward.core.credential import DEFAULT_COOKIE, Credential, Presented, Transport, extract
from doorward.core.deadline import Deadline
from doorward.core.e2e import is_test_token
from doorward.core.limits import AddressLimit
from doorward.core.origin import allowed, is_behind_tls
from doorward.core.routes import Route
from doorward.core.ticket import TicketUse
from doorward.core.verdict import Code, Deny, Source, Unavailable
from doorward.runtime.ports import Clock
from doorward.runtime.telemetry import Trace
from doorward.runtime.tickets import Tickets
from doorward.runtime.verifier import Judgement, Judging, waiting_of
from doorward.runtime.verifiers import Verifiers

_COOKIE, _TICKET = Transport.COOKIE, Transport.TICKET
"""Looked up once: on Python 3.11 a member of an enum, read from its class, takes as long as a small function."""


@dataclass(frozen=True, slots=True)
class HandshakePolicy:
    """What every handshake is held to."""

    allowed_origins: frozenset[str] = frozenset()
    cookie: str = DEFAULT_COOKIE
    max_pending: int = 4_096


class Handshake(msgspec.Struct, frozen=True, gc=False):
    """One opening handshake, or one HTTP request, as the server handed it over.

    `scheme` is the client's own, behind a trusted proxy too.
    """

    path: str
    address: str
    origin: str | None
    host: str | None
    scheme: str
    presented: Presented
    route: Route
    is_safe: bool = False
    """An HTTP request that only reads (RFC 9110, section 9.2.1): no page of another origin can do harm with a cookie's help."""


class Authenticator:
    """Args: tickets: where they are given out."""

    def __init__(
        self,
        policy: HandshakePolicy,
        verifiers: Verifiers,
        *,
        addresses: AddressLimit,
        clock: Clock,
        tickets: Tickets | None = None,
    ) -> None:
        self.policy = policy
        self.pending = 0
        self.verifiers = verifiers
        self._addresses = addresses
        self._clock = clock
        self._tickets = tickets

    async def decide(self, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judgement:
        """The verdict on an opening handshake.

        Cancellation: the question, if one was asked, goes on for whoever shares it; nothing else is left behind.
        """
        judging = self.deciding(handshake, deadline, trace)
        return judging if isinstance(judging, Judgement) else await judging

    def deciding(self, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judging:
        """As `decide`, and there at once where nothing has to be waited for."""
        refusal = self._refusal(handshake)
        trace.mark("admit")
        if refusal is not None:
            return Judgement(refusal)
        credential = extract(handshake.presented, handshake.route.transports, cookie=self.policy.cookie)
        trace.mark("extract")
        if isinstance(credential, Deny):
            return Judgement(credential)
        if credential.transport is _COOKIE and handshake.origin is None and not handshake.is_safe:
            return Judgement(Deny(Code.ORIGIN_DENIED, Source.ORIGIN, "a cookie counts only with an allowed Origin"))
        return self.examining(credential, handshake, deadline, trace)

    def examining(self, credential: Credential, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judging:
        """The verdict on the credential of a handshake that has passed ORIGIN and ADMIT, or what to await for it, at once.

        Cancellation: as of `decide`.
        """
        token, testing = credential.token, self.verifiers.testing
        if credential.transport is _TICKET:
            judging: Judging = self._judge_ticket(token, handshake, deadline, trace)
        elif testing is not None and is_test_token(token):
            judging = testing.judge_test_token(token, handshake.route, deadline, trace)
        else:
            judging = self._judging(token, handshake, deadline, trace)
        return judging if isinstance(judging, Judgement) else self._pending(judging)

    async def _pending(self, judging: Coroutine[Any, Any, Judgement]) -> Judgement:
        """Counted for as long as it waits."""
        self.pending += 1
        try:
            return await judging
        finally:
            self.pending -= 1

    def _judging(self, token: str, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judging:
        verifier = self.verifiers.of(token)
        if isinstance(verifier, Deny):
            return Judgement(verifier)
        return verifier.judging(token, handshake.route, deadline, trace)

    def admits(self, address: str) -> bool:
        """Take one from what this address may ask for: a handshake, or an in-band refresh."""
        return self._addresses.take(address, self._clock.monotonic())

    # Tickets: redeemed, and then the token in it goes all the way

    async def _judge_ticket(self, sealed: str, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judgement:
        if self._tickets is None:
            return Judgement(Deny(Code.TOKEN_INVALID, Source.TICKET, "no tickets are given out here"))
        use = TicketUse(handshake.path, handshake.origin, handshake.scheme, handshake.host, is_safe=handshake.is_safe)
        token = await self._tickets.redeem(sealed, use, waiting_of(deadline))
        trace.mark("ticket")
        if not isinstance(token, str):
            return Judgement(token)
        judging = self._judging(token, handshake, deadline, trace)
        return judging if isinstance(judging, Judgement) else await judging

    # ORIGIN, ADMIT

    def _refusal(self, handshake: Handshake) -> Deny | Unavailable | None:
        extra = self.policy.allowed_origins
        origin, scheme, host = handshake.origin, handshake.scheme, handshake.host
        if not allowed(origin, scheme=scheme, host=host, extra=extra):
            mend = "add it to allowed_origins to admit it"
            if origin is not None and is_behind_tls(origin, scheme=scheme, host=host):
                mend = "the same but for TLS: name the proxy that ends it in trusted_proxies"
            return Deny(Code.ORIGIN_DENIED, Source.ORIGIN, f"origin {shown(origin)}; {mend}")
        if not self.admits(handshake.address):
            return Unavailable(Code.RATE_LIMITED, Source.ADMIT)
        if self.pending >= self.policy.max_pending:
            return Unavailable(Code.OVERLOADED, Source.ADMIT, detail="too many pending handshakes")
        return None
