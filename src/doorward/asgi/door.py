"""The door, put together: settings in, all the parts wired, opened and closed in one place."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from doorward.adapters.e2e_key import load_public_key
from doorward.adapters.logs import log_often, own_written, shape_own
from doorward.adapters.prometheus import PrometheusMetrics
from doorward.asgi import first_message
from doorward.asgi.denial import Denier
from doorward.asgi.handshake import HandshakeReader
from doorward.asgi.insight import DoorInsight
from doorward.asgi.issuer import House, Issuer
from doorward.asgi.policies import e2e_key_file, e2e_policy, handshake_policy, route_rules
from doorward.asgi.session import AdmittedConnection
from doorward.config import OneIssuer, Settings, Verify, variable_for
from doorward.core.deadline import Deadline
from doorward.core.keyset import KeySet
from doorward.core.limits import AddressLimit, Waiting
from doorward.core.proxies import UntrustedProxies
from doorward.core.verdict import Code, Source, Unavailable
from doorward.errors import ConfigError, UsageError
from doorward.runtime.authenticator import Authenticator
from doorward.runtime.bounded import Reaper
from doorward.runtime.clock import SystemClock
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.log import get_logger
from doorward.runtime.loop_lag import LoopLag
from doorward.runtime.ports import Clock, Validator
from doorward.runtime.supervisor import Supervisor
from doorward.runtime.telemetry import Telemetry
from doorward.runtime.tickets import Tickets
from doorward.runtime.tracing import Tracing
from doorward.runtime.verifiers import Verifiers
from doorward.runtime.wakes import Wakes

CLOSE_SECONDS = 2.0
READY_SECONDS = 10.0
REOPEN_SECONDS = 1.0
TELL_SECONDS = 2.0
"""What saying goodbye to a peer may take besides."""

LOG_SECONDS = 1.0
"""What the last lines may take to be written. Most servers end by the signal that stopped them, so nothing runs after us."""

POLL_SECONDS = 0.02
IDS_AT_ONCE = 64

log = get_logger("doorward")


class Door:
    """One process's door. `open` it before the first handshake, `aclose` it after the last. Then it may be opened again, in
    another event loop too; it is closed by itself where its loop ends before.

    Args:
        validator: another way to ask; gets the same breaker, bulkhead, deadline and single-flight as ours. If it has a
            coroutine `aclose`, that is awaited when the door closes; it is asked again if the door is opened again. Where there
            are several issuers: by their names.
        emit: receives each decision record, for the log.
        tracing: receives each decision and each question as spans; default: OpenTelemetry, where it is set up.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        validator: Validator | Mapping[str, Validator] | None = None,
        emit: Callable[[DecisionRecord], None] | None = None,
        metrics: PrometheusMetrics | None = None,
        clock: Clock | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        plans = settings.each_issuer()
        shape_own(level=settings.log_level, style=settings.log_format)
        validators = _validators(plans, validator)
        for plan in plans:
            _check(plan, validators.get(plan.name))
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.metrics = metrics or PrometheusMetrics()
        self.telemetry = Telemetry(self.metrics, clock=self.clock, emit=emit or log_decision)
        self.routes = route_rules(settings)
        self.reader = HandshakeReader(self.routes, settings.trusted_proxies, untrusted=self._forwarded_by)
        self._untrusted_proxies = UntrustedProxies()
        self._takes_test_tokens = e2e_policy(settings) is not None
        self.handshakes = 0
        """That are being decided or refused just now."""
        self.tracing = tracing
        limits = settings.limits
        self.waiting = Waiting(limits.first_message_waiting, per_address=limits.first_message_waiting_per_address)
        self.listening: set[asyncio.Timeout] = set()
        """Until when those are waited for who are still to send their token."""
        self._plans, self._validators = plans, validators
        self._takes_opaque = next((plan.name for plan in plans if plan.takes_opaque), None)
        self._opening: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._begin()
        self.insight = DoorInsight(self)

    def _begin(self) -> None:
        """A life of the door: what belongs to one event loop, or ends for good when it is closed. Nothing of it is open yet."""
        limits, uniform = self.settings.limits, random.SystemRandom().random
        self._is_spent = False
        self.draining = self.unready = False
        self.opened_at: float | None = None
        self.reaper = Reaper()
        self.supervisor = Supervisor()
        self._stack = AsyncExitStack()
        self._wakes = Wakes(self.clock)
        self._until_loop_ends: asyncio.Task[None] | None = None
        self.denier = Denier(
            clock=self.clock,
            uniform=uniform,
            style=self.settings.close_codes,
            mode=self.settings.denial,
            max_lingering=limits.lingering_refusals,
            reconnect_rate_per_second=limits.reconnect_rate_per_second,
        )
        house = House(
            clock=self.clock,
            metrics=self.metrics,
            telemetry=self.telemetry,
            reaper=self.reaper,
            supervisor=self.supervisor,
            denier=self.denier,
            wakes=self._wakes,
            uniform=uniform,
            verifier_of=lambda token: self.authenticator.verifiers.of(token),
            admits=lambda address: self.authenticator.admits(address),
            published=self._published,
        )
        self.issuers: Mapping[str, Issuer] = {
            plan.name: Issuer(plan, house, validator=self._validators.get(plan.name)) for plan in self._plans
        }

    async def open(self) -> None:
        """Load what survived, start what runs in the background. Does not wait for the auth service. After a drain and `aclose`
        it takes handshakes again. What failed may be mended, so a later call tries again; calls until then share the failure.

        Raises:
            ConfigError, StoreError: the data directory cannot be used.

        Cancellation: `aclose` cleans up what was opened.
        """
        opening = self._opening
        has_failed = opening is not None and opening.done() and self._is_spent
        if opening is None or (has_failed and self.clock.monotonic() >= self._retry_at):
            if self._is_spent:
                self._begin()
            opening = self._opening = asyncio.ensure_future(self._open_or_undo())
        await asyncio.shield(opening)

    @property
    def ready(self) -> bool:
        """May this process take traffic? An auth outage later does not change it."""
        if self.unready or self.draining or self.opened_at is None:
            return False
        waited = self.clock.monotonic() - self.opened_at
        return waited >= READY_SECONDS or all(issuer.keys.keyset is not None for issuer in self.issuers.values())

    @property
    def in_outage(self) -> bool:
        """Is there an auth service by which tokens cannot be refreshed now, as far as this process can see?"""
        return any(issuer.in_outage for issuer in self.issuers.values())

    @property
    def connections(self) -> Iterator[AdmittedConnection]:
        """Those that are open now."""
        for issuer in self.issuers.values():
            for connection in issuer.registry:
                if isinstance(connection, AdmittedConnection):
                    yield connection

    @property
    def connection_count(self) -> int:
        return sum(len(issuer.registry) for issuer in self.issuers.values())

    def turn_away(self) -> None:
        """Not ready any more, and still serving: a load balancer should look elsewhere."""
        self.unready = True

    async def drain(self, spread_seconds: float = 10.0, deadline: Deadline | None = None) -> None:
        """Refuse new handshakes with `RESTARTING` and close the open sockets with 1012, spread out.

        Returns when the last socket and every handshake that was under way have their answer: then the server may stop.

        Cancellation: what is not closed yet stays open; new handshakes stay refused.
        """
        self.draining = True
        first_message.stop(self.listening)
        connections = list(self.connections)
        end = self.clock.monotonic() + spread_seconds
        if deadline is not None:
            end = min(end, deadline.at)
        restarting = Unavailable(Code.RESTARTING, Source.DRAIN)
        telling: list[asyncio.Task[None] | None] = []
        for left in range(len(connections), 0, -1):
            connection = connections[len(connections) - left]
            work = connection.drain(restarting, extra_waiting=len(connections))
            telling.append(self.supervisor.spawn(work, name="drain"))
            await asyncio.sleep(max(end - self.clock.monotonic(), 0.0) / left if left > 1 else 0.0)
        patience = self.settings.deadline_seconds + TELL_SECONDS
        if deadline is not None:
            patience = min(patience, deadline.remaining(self.clock.monotonic()))
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._quiet({task for task in telling if task is not None})

    async def _quiet(self, telling: set[asyncio.Task[None]]) -> None:
        if telling:
            await asyncio.wait(telling)
        while self.handshakes or len(self.waiting):  # noqa: ASYNC110 - a count tells nobody, and nothing else of a handshake is held
            await asyncio.sleep(POLL_SECONDS)

    async def aclose(self) -> None:
        """Stop everything, with a bound on each."""
        self._is_spent, self.opened_at = True, None
        supervisor, stack, reaper = self.supervisor, self._stack, self.reaper
        begun, caller = (self._opening, self._until_loop_ends), asyncio.current_task()
        self._opening = self._until_loop_ends = None
        ending = {task for task in begun if task is not None and task is not caller}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_SECONDS)
        await supervisor.aclose(seconds=CLOSE_SECONDS)
        await stack.aclose()
        await reaper.aclose(seconds=CLOSE_SECONDS)
        await own_written(seconds=LOG_SECONDS)

    async def _close_when_loop_ends(self) -> None:
        """Without a lifespan nobody else does; and the next loop would find a door whose parts belong to this one."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._until_loop_ends is asyncio.current_task():
                await self.aclose()
                self.draining = self.unready = False  # the first handshake of another loop opens it again
            raise

    def _forwarded_by(self, address: str) -> None:
        """A private address says that it forwards for somebody, and is not trusted: all behind it share one limit."""
        self.metrics.untrusted_forward()
        if self._untrusted_proxies.noted(address):
            log.warning(
                "a proxy that trusted_proxies does not name: all clients behind it count as one",
                address=address,
                mend="add it to trusted_proxies, if it is a proxy of yours",
            )

    async def _open_or_undo(self) -> None:
        stack = self._stack
        try:
            await self._open()
        except BaseException as error:
            if self._opening is asyncio.current_task():
                self._is_spent = True
                pause = REOPEN_SECONDS if isinstance(error, Exception) else 0.0
                self._retry_at = self.clock.monotonic() + pause
            await stack.aclose()
            raise

    async def _open(self) -> None:
        self.tracing = self.tracing or self._configured_tracing()
        lag = LoopLag(self.telemetry.lagged, self.clock.monotonic)
        lag.start()
        self._stack.callback(lag.stop)
        test_key = await load_public_key(e2e_key_file(self.settings)) if self._takes_test_tokens else None
        for issuer in self.issuers.values():
            await issuer.open(self._stack, tracing=self.tracing, test_key=test_key)
        self._stack.callback(self._wakes.aclose)
        self.tickets = Tickets(
            seconds=self.settings.tickets.seconds,
            memory=next(iter(self.issuers.values())).memory,
            clock=self.clock,
            reaper=self.reaper,
        )
        limits = self.settings.limits
        self.authenticator = Authenticator(
            handshake_policy(self.settings),
            self._verifiers(),
            addresses=AddressLimit(limits.address_rate_per_second, limits.address_burst),
            clock=self.clock,
            tickets=self.tickets,
        )
        for issuer in self.issuers.values():
            issuer.start()
        self._watch()
        self._until_loop_ends = asyncio.create_task(self._close_when_loop_ends(), name="doorward:end of the loop")
        self.opened_at = self.clock.monotonic()

    def _configured_tracing(self) -> Tracing | None:
        """Where nobody has imported OpenTelemetry, nobody can have set it up: then it is not even imported here."""
        if self.settings.telemetry.otel == "off" or "opentelemetry.trace" not in sys.modules:
            return None
        from doorward.adapters.otel import configured_tracing

        return configured_tracing(client_trace=self.settings.telemetry.client_trace, wall=self.clock.wall)

    def _verifiers(self) -> Verifiers:
        by_name = {name: issuer.verifier for name, issuer in self.issuers.items()}
        opaque = by_name[self._takes_opaque] if self._takes_opaque is not None else None
        return Verifiers(list(by_name.values()), opaque=opaque)

    def _published(self) -> Sequence[KeySet]:
        return [keyset for issuer in self.issuers.values() if (keyset := issuer.keys.keyset) is not None]

    def _watch(self) -> None:
        self.metrics.watch(
            bars=lambda: sum(len(issuer.memory.bars) for issuer in self.issuers.values()),
            abandoned_tasks=lambda: len(self.reaper),
            connections=lambda: self.connection_count,
        )


def log_decision(record: DecisionRecord) -> None:
    """One line per decision, with its timeline in milliseconds."""
    unusual = record.verdict != "allow" and (record.verdict == "unavailable" or record.code == Code.ORIGIN_DENIED)
    log_often(logging.WARNING if unusual else logging.INFO, "decision", _fields, record)


def _fields(record: DecisionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "verdict": record.verdict,
        "source": record.source,
        "reason": record.reason,
        "code": record.code,
        "assurance": record.assurance,
        "degraded": record.degraded,
        "provisional": record.provisional,
        "user": record.user_id,
        "token": record.fingerprint,
        "issuer": record.issuer,
        "kind": record.kind,
        "path": record.path,
        "address": record.address,
        "detail": record.detail or None,
        "ms": record.total_ms,
        "overrun_ms": record.overrun_ms,
        "timeline": dict(record.steps.items()),
    }


def _decision_ids() -> Iterator[str]:
    """64 random bits each, in hex. The system is asked for many at a time, because asking is what takes long."""
    while True:
        drawn = secrets.token_hex(8 * IDS_AT_ONCE)
        for at in range(0, len(drawn), 16):
            yield drawn[at : at + 16]


new_decision_id: Callable[[], str] = partial(next, _decision_ids())


def _validators(
    plans: Sequence[OneIssuer], given: Validator | Mapping[str, Validator] | None
) -> Mapping[str, Validator]:
    """Those of the caller's own, by the names of their issuers."""
    names = [plan.name for plan in plans]
    if given is None or isinstance(given, Mapping):
        found = given or {}
    elif len(names) == 1:
        found = {names[0]: given}
    else:
        raise UsageError(f"there are several issuers: give validator={{name: ...}} with one of {', '.join(names)}")
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise UsageError(f"validator: there is no issuer {unknown[0]!r}; there is {', '.join(names)}")
    return found


def _check(plan: OneIssuer, validator: Validator | None) -> None:
    """What must be there before a handshake can be answered."""
    auth = plan.settings.auth
    _ = auth.base_url
    if plan.settings.verify is Verify.REMOTE and validator is None and auth.lacks_secret:
        key = f"{plan.section}.service_secret"
        raise ConfigError(
            f"{key} is not set: without it every question to the auth service would be refused; "
            f"set {variable_for(key)} (`doorward authd init` makes one)"
        )
