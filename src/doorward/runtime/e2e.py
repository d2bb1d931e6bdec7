"""E2E test tokens at the door: once each, in an outage only, and never a question to the auth service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doorward.core.breaker import State
from doorward.core.deadline import Deadline
from doorward.core.degrade import DegradePolicy, Grant
from doorward.core.e2e import E2ePolicy, E2eToken, admit, read
from doorward.core.keyset import Key, KeySet
from doorward.core.limits import TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Cause, Code, Deny, Source, Unavailable, Verdict
from doorward.errors import BackendError
from doorward.runtime.bounded import Reaper
from doorward.runtime.gate import Gate
from doorward.runtime.log import get_logger
from doorward.runtime.memory import NodeMemory
from doorward.runtime.once import Once
from doorward.runtime.ports import Clock
from doorward.runtime.telemetry import Telemetry

KIND = "e2e"
KEEP_USED_SECONDS = 86_400.0
"""A used `jti` is remembered so much longer than the token lives, for a host whose clock is set back."""

log = get_logger("doorward")


class E2eTokens:
    """Judges test tokens. There is one only where the settings switch them on.

    Args:
        published: the key sets of all issuers, as far as there are any now.
        degraded_rate: shared with everybody else who comes in degraded.
    """

    def __init__(
        self,
        policy: E2ePolicy,
        key: Key,
        *,
        degraded: DegradePolicy,
        degraded_rate: TokenBucket,
        published: Callable[[], Sequence[KeySet]],
        gate: Gate,
        memory: NodeMemory,
        reaper: Reaper,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self.policy = policy
        self.key = key
        self._degraded = degraded
        self._degraded_rate = degraded_rate
        self._published = published
        self._gate = gate
        self._memory = memory
        self._clock = clock
        self._telemetry = telemetry
        self._once = Once(KIND, memory=memory, clock=clock, reaper=reaper)

    async def judge(self, token: str, route: Route, waiting: Deadline, *, shown: str) -> Verdict:
        """The verdict on a test token. Waits for the node's store only, and not past `waiting`.

        Args:
            shown: the token's fingerprint, for the audit.

        Cancellation: the token may be used up or not.
        """
        found = read(token, self.policy, self.key, self._published(), self._clock.wall())
        if isinstance(found, Deny):
            return found
        grant = self._grant(found, route)
        if not isinstance(grant, Grant):
            return grant
        refusal = await self._use_up(found, waiting)
        if refusal is not None:
            return refusal
        grant = self._grant(found, route)  # the outage may be over meanwhile
        if not isinstance(grant, Grant):
            return grant
        if not self._degraded_rate.take(self._clock.monotonic()):
            return Unavailable(Code.OVERLOADED, Source.E2E, detail="too many degraded admits")
        self._telemetry.metrics.e2e_admit()
        log.warning("e2e admit", user=found.principal.user_id, jti=found.jti, token=shown, until=grant.until)
        return Allow(found.principal, grant.assurance, Source.E2E, degraded=True, grant_until=grant.until)

    def _grant(self, token: E2eToken, route: Route) -> Grant | Deny | Unavailable:
        if self._gate.breaker.state is State.CLOSED:
            return Deny(Code.TOKEN_REJECTED, Source.E2E, "a test token counts in an outage only: the breaker is closed")
        if not route.required_scopes <= self.policy.permissions:
            return Deny(Code.FORBIDDEN, Source.E2E, "the route needs a scope that test users have not")
        grant = admit(
            token,
            self._degraded,
            last_contact=self._memory.last_contact,
            route_allows=route.allow_degraded,
            wall_now=self._clock.wall(),
        )
        if isinstance(grant, Grant):
            return grant
        cause = grant.cause or Cause.BREAKER_OPEN
        return Unavailable(Code.SERVICE_UNAVAILABLE, Source.E2E, cause, f"no fallback: {grant}")

    async def _use_up(self, token: E2eToken, waiting: Deadline) -> Deny | Unavailable | None:
        try:
            is_first = await self._once.use_up(token.jti, token.expires_at + KEEP_USED_SECONDS, waiting)
        except BackendError as error:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.STORE, f"was it used before? {error}")
        return None if is_first else _used()


def _used() -> Deny:
    return Deny(Code.TOKEN_REJECTED, Source.E2E, "a test token counts once: this one was used")
