"""The door, put together: settings in, all the parts wired, opened and closed in one place."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog

from doorward.adapters.dns import AresDnsClient
from doorward.adapters.e2e_key import load_public_key
from doorward.adapters.health_http import HttpHealthProbe
from doorward.adapters.jwks_http import HttpKeySetSource
from doorward.adapters.logs import log_often
from doorward.adapters.node_store import SqliteNodeStore
from doorward.adapters.prometheus import PrometheusMetrics
from doorward.adapters.revocations_http import HttpRevocationSource
from doorward.adapters.state_files import DirectoryStateFiles
from doorward.adapters.transport import HttpTransport, tls_context
from doorward.asgi.asking import make_validator, service_credential
from doorward.asgi.denial import Denier
from doorward.asgi.handshake import HandshakeReader
from doorward.asgi.insight import DoorInsight
from doorward.asgi.policies import (
    auth_policy,
    breaker_policy,
    cache_policy,
    degrade_policy,
    e2e_key_file,
    e2e_policy,
    phase_caps,
    route_rules,
)
from doorward.asgi.session import AdmittedConnection, Surroundings
from doorward.config import Settings, Verify
from doorward.core.breaker import CircuitBreaker
from doorward.core.deadline import Deadline
from doorward.core.decisions import VerdictCache
from doorward.core.keyset import Key
from doorward.core.limits import AddressLimit, Bulkhead, TokenBucket, Waiting
from doorward.core.session import Phase, SessionPolicy
from doorward.core.verdict import Code, Source, Unavailable
from doorward.errors import ConfigError, DeadlinePassed
from doorward.runtime.authenticator import Authenticator
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.canary import Canary
from doorward.runtime.clock import SystemClock
from doorward.runtime.e2e import E2eTokens
from doorward.runtime.gate import Gate
from doorward.runtime.health_monitor import HealthMonitor
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.loop_lag import LoopLag
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock, Validator
from doorward.runtime.registry import Registry
from doorward.runtime.resolver import Resolver
from doorward.runtime.revocation_follower import RevocationFollower
from doorward.runtime.supervisor import Supervisor
from doorward.runtime.telemetry import Telemetry
from doorward.runtime.tickets import Tickets
from doorward.runtime.tracing import Tracing
from doorward.runtime.wakes import Wakes

CLOSE_SECONDS = 2.0
READY_SECONDS = 10.0
REOPEN_SECONDS = 1.0
TIDY_SECONDS = 60.0
CANARY_CONNECTIONS = 4
IDS_AT_ONCE = 64

log = structlog.get_logger("doorward")


class Door:
    """One process's door. `open` it before the first handshake, `aclose` it after the last.

    Args:
        validator: another way to ask; gets the same breaker, bulkhead, deadline and single-flight as ours. If it has a
            coroutine `aclose`, that is awaited when the door closes.
        emit: receives each decision record, for the log.
        tracing: receives each decision and each question as spans; default: OpenTelemetry, where it is set up.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        validator: Validator | None = None,
        emit: Callable[[DecisionRecord], None] | None = None,
        metrics: PrometheusMetrics | None = None,
        clock: Clock | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        _check(settings, validator)
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.metrics = metrics or PrometheusMetrics()
        self.telemetry = Telemetry(self.metrics, clock=self.clock, emit=emit or log_decision)
        self.registry = Registry()
        self.reaper = Reaper()
        self.supervisor = Supervisor()
        self.routes = route_rules(settings)
        self.reader = HandshakeReader(self.routes, settings.trusted_proxies)
        self._e2e_policy = e2e_policy(settings)
        self.draining = False
        self.unready = False
        self.tracing = tracing
        self.opened_at: float | None = None
        self._validator = validator
        self._uniform: Callable[[], float] = random.SystemRandom().random
        self._stack = AsyncExitStack()
        self._opening: asyncio.Task[None] | None = None
        self._revalidating = False
        now = self.clock.monotonic()
        limits = settings.limits
        self.gate = Gate(
            CircuitBreaker(breaker_policy(settings), now),
            Bulkhead(limits.bulkhead, unproven=limits.unproven_lane, abandoned=limits.abandoned),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.denier = Denier(
            clock=self.clock,
            uniform=self._uniform,
            style=settings.close_codes,
            mode=settings.denial,
            max_lingering=limits.lingering_refusals,
            reconnect_rate_per_second=limits.reconnect_rate_per_second,
        )
        self.waiting = Waiting(limits.first_message_waiting, per_address=limits.first_message_waiting_per_address)
        self.session_policy = SessionPolicy(
            settings.session.expiring_notice_seconds,
            settings.session.expiry_grace_seconds,
            frozenset(settings.degrade.privileged_scopes),
        )
        self.memory = self._forgetful()
        self.insight = DoorInsight(self)

    async def open(self) -> None:
        """Load what survived, start what runs in the background. Does not wait for the auth service.

        Raises:
            ConfigError, StoreError: the data directory cannot be used.

        Cancellation: `aclose` cleans up what was opened.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open_or_undo())
        await asyncio.shield(self._opening)

    @property
    def ready(self) -> bool:
        """May this process take traffic? An auth outage later does not change it."""
        if self.unready or self.draining or self.opened_at is None:
            return False
        waited = self.clock.monotonic() - self.opened_at
        return self.keys.keyset is not None or waited >= READY_SECONDS

    @property
    def in_outage(self) -> bool:
        """Can tokens not be refreshed now, as far as this process can see?"""
        if self.gate.in_outage:
            return True
        return not self._has_canary and self.health.health.has_turned_bad

    @property
    def _has_canary(self) -> bool:
        """With a canary health needs no say: what a failed probe makes likely, the canary finds out.

        `verify = local` asks about opaque tokens too, if it can ask at all.
        """
        asks = self.settings.verify is Verify.REMOTE or self.settings.auth.service_secret is not None
        return asks and self.settings.breaker.canary

    def turn_away(self) -> None:
        """Not ready any more, and still serving: a load balancer should look elsewhere."""
        self.unready = True

    async def drain(self, spread_seconds: float = 10.0, deadline: Deadline | None = None) -> None:
        """Refuse new handshakes with `RESTARTING` and close the open sockets with 1012, spread out.

        Cancellation: what is not closed yet stays open; new handshakes stay refused.
        """
        self.draining = True
        connections = list(self.registry)
        end = self.clock.monotonic() + spread_seconds
        if deadline is not None:
            end = min(end, deadline.at)
        restarting = Unavailable(Code.RESTARTING, Source.DRAIN)
        for left in range(len(connections), 0, -1):
            connection = connections[len(connections) - left]
            if isinstance(connection, AdmittedConnection):
                self.supervisor.spawn(connection.drain(restarting, extra_waiting=len(connections)), name="drain")
            await asyncio.sleep(max(end - self.clock.monotonic(), 0.0) / left if left > 1 else 0.0)

    async def aclose(self) -> None:
        """Stop everything, with a bound on each."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening}, timeout=CLOSE_SECONDS)
        await self.supervisor.aclose(seconds=CLOSE_SECONDS)
        await self._stack.aclose()
        await self.reaper.aclose(seconds=CLOSE_SECONDS)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.supervisor.spawn(work, name=name)

    async def _open_or_undo(self) -> None:
        """What failed may be mended meanwhile, so a later call tries again; calls until then share this failure."""
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            self.memory = self._forgetful()
            asyncio.get_running_loop().call_later(REOPEN_SECONDS, self._forget_failure)
            raise

    def _forget_failure(self) -> None:
        self._opening = None

    def _forgetful(self) -> NodeMemory:
        """A memory that has nothing loaded yet."""
        settings = self.settings
        store = SqliteNodeStore(
            settings.data_dir, issuer=settings.auth.expected_issuer, keyset_url=settings.auth.keyset_url
        )
        return NodeMemory(store, self.clock)

    async def _open(self) -> None:
        settings, auth = self.settings, self.settings.auth
        self.tracing = self.tracing or self._configured_tracing()
        lag = LoopLag(self.telemetry.lagged, self.clock.monotonic)
        lag.start()
        self._stack.callback(lag.stop)
        self._stack.push_async_callback(self.memory.aclose)
        await self.memory.open()
        test_key = await load_public_key(e2e_key_file(settings)) if self._e2e_policy is not None else None
        tls = await tls_context(auth.ca_file)
        dns = AresDnsClient(auth.dns_servers)
        self._stack.push_async_callback(dns.aclose)
        resolver = Resolver(dns, self.clock, tls=urlsplit(auth.base_url).scheme == "https")
        self._stack.push_async_callback(resolver.aclose)
        limit = settings.limits.bulkhead + settings.limits.abandoned + CANARY_CONNECTIONS
        calls = HttpTransport(resolver, limit=limit, tls=tls)
        background = HttpTransport(resolver, limit=8, tls=tls)
        for transport in (calls, background):
            self._stack.push_async_callback(transport.aclose)
        self._build(calls, background, test_key)
        await self.keys.load()
        self._start()
        self.opened_at = self.clock.monotonic()

    def _build(self, calls: HttpTransport, background: HttpTransport, test_key: Key | None) -> None:
        settings, auth, caps = self.settings, self.settings.auth, phase_caps(self.settings)
        credential = service_credential(auth)
        close_validator = getattr(self._validator, "aclose", None)
        if close_validator is not None:
            self._stack.push_async_callback(self._close_bounded, close_validator)
        traceparent = self.tracing.traceparent if self.tracing is not None else None
        validator = self._validator or make_validator(auth, calls, caps, traceparent=traceparent)
        files = DirectoryStateFiles(settings.data_dir, issuer=auth.expected_issuer, keyset_url=auth.keyset_url)
        self._stack.push_async_callback(files.aclose)
        self.keys = KeysetRefresher(
            HttpKeySetSource(background, url=auth.keyset_url, caps=caps),
            files,
            clock=self.clock,
            reaper=self.reaper,
            uniform=self._uniform,
        )
        self._stack.push_async_callback(self.keys.aclose, seconds=CLOSE_SECONDS)
        self.health = HealthMonitor(
            HttpHealthProbe(background, url=auth.base_url + auth.health_path, caps=caps),
            self.metrics,
            clock=self.clock,
            reaper=self.reaper,
            uniform=self._uniform,
            in_outage=lambda: self.gate.in_outage,
        )
        self.follower = RevocationFollower(
            HttpRevocationSource(
                background, url=auth.base_url + auth.revocations_path, credential=credential, caps=caps
            ),
            self.memory,
            clock=self.clock,
            reaper=self.reaper,
            uniform=self._uniform,
            on_items=self._on_revocations,
        )
        self.inquirer = Inquirer(
            validator,
            self.gate,
            clock=self.clock,
            reaper=self.reaper,
            telemetry=self.telemetry,
            tracing=self.tracing,
        )
        degraded_rate = TokenBucket(settings.degrade.rate_per_second, settings.degrade.burst, self.clock.monotonic())
        self.tickets = Tickets(
            seconds=settings.tickets.seconds, memory=self.memory, clock=self.clock, reaper=self.reaper
        )
        self.authenticator = Authenticator(
            auth_policy(settings),
            inquirer=self.inquirer,
            gate=self.gate,
            cache=VerdictCache(cache_policy(settings)),
            memory=self.memory,
            keys=self.keys,
            addresses=AddressLimit(settings.limits.address_rate_per_second, settings.limits.address_burst),
            degraded_rate=degraded_rate,
            clock=self.clock,
            telemetry=self.telemetry,
            e2e=self._test_tokens(test_key, degraded_rate),
            tickets=self.tickets,
        )
        self._stack.push_async_callback(self.authenticator.aclose, seconds=CLOSE_SECONDS)
        wakes = Wakes(self.clock)
        self._stack.callback(wakes.aclose)
        self.shared = Surroundings(
            authenticator=self.authenticator,
            registry=self.registry,
            gate=self.gate,
            denier=self.denier,
            telemetry=self.telemetry,
            clock=self.clock,
            spawn=self.spawn,
            deadline_seconds=settings.deadline_seconds,
            app_exit_seconds=settings.session.app_exit_seconds,
            in_outage=lambda: self.in_outage,
            wakes=wakes,
        )
        self.gate.on_recovered = self._recovered
        self.health.on_change = self._recovered

    def _configured_tracing(self) -> Tracing | None:
        """Where nobody has imported OpenTelemetry, nobody can have set it up: then it is not even imported here."""
        if self.settings.telemetry.otel == "off" or "opentelemetry.trace" not in sys.modules:
            return None
        from doorward.adapters.otel import configured_tracing

        return configured_tracing(client_trace=self.settings.telemetry.client_trace, wall=self.clock.wall)

    def _test_tokens(self, key: Key | None, degraded_rate: TokenBucket) -> E2eTokens | None:
        if self._e2e_policy is None or key is None:
            return None
        log.warning("E2E test tokens are on", audience=self._e2e_policy.audience, tenant=self._e2e_policy.tenant)
        return E2eTokens(
            self._e2e_policy,
            key,
            degraded=degrade_policy(self.settings),
            degraded_rate=degraded_rate,
            published=lambda: self.keys.keyset,
            gate=self.gate,
            memory=self.memory,
            reaper=self.reaper,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    def _start(self) -> None:
        keep, settings = self.supervisor.keep, self.settings
        keep("key set", self.keys.run)
        keep("health", self.health.run)
        keep("tidy", self._tidy)
        if settings.auth.revocations != "off":
            keep("revocations", self.follower.run)
        if self._has_canary:
            canary = Canary(
                self.inquirer,
                self.gate,
                self.memory,
                clock=self.clock,
                seconds=settings.deadline_seconds,
                failing_since=lambda: self.health.failing_since,
            )
            keep("canary", canary.run)
        self.metrics.watch(
            keyset_age=self.keys.age_seconds,
            feed_age=lambda: self.insight.feed_age_seconds,
            bars=lambda: len(self.memory.bars),
            abandoned_tasks=lambda: len(self.reaper),
            connections=lambda: len(self.registry),
        )

    async def _close_bounded(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A validator of the user's own may hang; the door does not."""
        deadline = Deadline.after(self.clock.monotonic(), CLOSE_SECONDS)
        try:
            await bounded(close(), deadline, clock=self.clock, reaper=self.reaper)
        except DeadlinePassed:
            log.warning("the validator does not close")

    def _on_revocations(self, items: Sequence[Any]) -> None:
        closed = self.registry.revoke(items)
        if items:
            log.info("revocations", items=len(items), closed=closed)

    def _recovered(self) -> None:
        if not self.in_outage and not self._revalidating:
            self.spawn(self._after_recovery(), "re-validation")

    async def _after_recovery(self) -> None:
        """The auth service is back: ask anew about everybody who came in without it, with jitter and a rate.

        Who found the gate full is asked about again, until all are proven or their grants have ended.
        """
        told: set[AdmittedConnection] = set()
        self._revalidating = True
        try:
            while not self.in_outage and (left := self._unproven() - told):
                for connection in left:
                    await asyncio.sleep(2 * self._uniform() / self.settings.session.revalidate_rate_per_second)
                    if connection.session.phase is Phase.GRACE:
                        told.add(connection)
                        connection.recovered()
                    elif connection.session.needs_proof:
                        self.spawn(connection.recheck(), "re-validation")
                await asyncio.sleep(self.settings.deadline_seconds)
        finally:
            self._revalidating = False

    def _unproven(self) -> set[AdmittedConnection]:
        return {
            connection
            for connection in self.registry
            if isinstance(connection, AdmittedConnection)
            and (connection.session.phase is Phase.GRACE or connection.session.needs_proof)
        }

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await self.memory.tidy()


def log_decision(record: DecisionRecord) -> None:
    """One line per decision, with its timeline in milliseconds."""
    unusual = record.verdict == "unavailable" or record.code == Code.ORIGIN_DENIED
    log_often(
        logging.WARNING if unusual else logging.INFO,
        "decision",
        {
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
            "kind": record.kind,
            "path": record.path,
            "address": record.address,
            "detail": record.detail or None,
            "ms": record.total_ms,
            "overrun_ms": record.overrun_ms,
            "timeline": {step.name: step.ms for step in record.steps},
        },
    )


def _decision_ids() -> Iterator[str]:
    """64 random bits each, in hex. The system is asked for many at a time, because asking is what takes long."""
    while True:
        drawn = secrets.token_hex(8 * IDS_AT_ONCE)
        yield from (drawn[at : at + 16] for at in range(0, len(drawn), 16))


new_decision_id: Callable[[], str] = partial(next, _decision_ids())


def _check(settings: Settings, validator: Validator | None) -> None:
    """What must be there before a handshake can be answered."""
    _ = settings.auth.base_url
    asks = settings.verify is Verify.REMOTE and validator is None and settings.auth.send_credential
    secret = settings.auth.service_secret
    if asks and not (secret and secret.get_secret_value()):
        raise ConfigError(
            "auth.service_secret is not set: without it every question to the auth service would be refused; "
            "set DOORWARD_AUTH__SERVICE_SECRET (`doorward authd init` makes one)"
        )
