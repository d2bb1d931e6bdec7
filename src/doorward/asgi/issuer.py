"""One issuer, put together: its auth service, the way to it, and everything that is remembered of its tokens.

Nothing of it is shared with another issuer: not the connections, the gate and its books, the key set, the verdicts in memory, the
bars and revocations, nor who is to be closed by them. So when one is sick, the users of the others do not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from doorward.adapters.dns import AresDnsClient
from doorward.adapters.health_http import HttpHealthProbe
from doorward.adapters.jwks_http import HttpKeySetSource
from doorward.adapters.node_store import SqliteNodeStore
from doorward.adapters.prometheus import PrometheusMetrics
from doorward.adapters.revocations_http import HttpRevocationSource
from doorward.adapters.state_files import DirectoryStateFiles
from doorward.adapters.transport import HttpTransport, tls_context
from doorward.asgi.asking import make_validator, service_credential
from doorward.asgi.denial import Denier
from doorward.asgi.policies import (
    auth_policy,
    breaker_policy,
    cache_policy,
    degrade_policy,
    e2e_policy,
    phase_caps,
    session_policy,
)
from doorward.asgi.session import AdmittedConnection, Surroundings
from doorward.config import OneIssuer, Verify
from doorward.core.breaker import CircuitBreaker
from doorward.core.deadline import Deadline
from doorward.core.decisions import VerdictCache
from doorward.core.keyset import Key, KeySet
from doorward.core.limits import Bulkhead, TokenBucket
from doorward.core.session import Phase
from doorward.core.verdict import Deny
from doorward.errors import DeadlinePassed
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.canary import Canary
from doorward.runtime.e2e import E2eTokens
from doorward.runtime.gate import Gate
from doorward.runtime.health_monitor import HealthMonitor
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.log import get_logger
from doorward.runtime.memory import NodeMemory, of_tenant
from doorward.runtime.ports import Clock, RevocationItem, Validator
from doorward.runtime.registry import Registry
from doorward.runtime.resolver import Resolver
from doorward.runtime.revocation_follower import RevocationFollower
from doorward.runtime.supervisor import Supervisor
from doorward.runtime.telemetry import Telemetry
from doorward.runtime.tracing import Tracing
from doorward.runtime.verifier import Verifier
from doorward.runtime.wakes import Wakes

CLOSE_SECONDS = 2.0
TIDY_SECONDS = 60.0
CANARY_CONNECTIONS = 4
BACKGROUND_CONNECTIONS = 8

log = get_logger("doorward")


@dataclass(frozen=True, slots=True)
class House:
    """What a door has once, and its issuers use.

    `verifier_of`: whose a token is; `admits`: may this address ask for one more decision; `published`: the key sets of all issuers.
    """

    clock: Clock
    metrics: PrometheusMetrics
    telemetry: Telemetry
    reaper: Reaper
    supervisor: Supervisor
    denier: Denier
    wakes: Wakes
    uniform: Callable[[], float]
    verifier_of: Callable[[str], Verifier | Deny]
    admits: Callable[[str], bool]
    published: Callable[[], Sequence[KeySet]]


class Issuer:
    """Opened once: another life of the door has another one.

    Args:
    plan: the settings of this one.
    validator: another way to ask.
    """

    def __init__(self, plan: OneIssuer, house: House, *, validator: Validator | None = None) -> None:
        settings = plan.settings
        self.name = plan.name
        self.registry = Registry()
        self._plan = plan
        self._house = house
        self._settings = settings
        self._auth = settings.auth
        self._clock = house.clock
        self._validator = validator
        self._revalidation: asyncio.Task[None] | None = None
        limits = settings.limits
        house.metrics.begin(plan.name)
        self.gate = Gate(
            plan.name,
            CircuitBreaker(breaker_policy(settings), house.clock.monotonic()),
            Bulkhead(limits.bulkhead, unproven=limits.unproven_lane, abandoned=limits.abandoned),
            clock=house.clock,
            telemetry=house.telemetry,
        )
        auth = settings.auth
        store = SqliteNodeStore(settings.data_dir, issuer=auth.expected_issuer, keyset_url=auth.keyset_url)
        self.memory = NodeMemory(store, self._clock, follows_feed=auth.revocations != "off", tenant=self.tenant)

    @property
    def tenant(self) -> str | None:
        return self._plan.tenant

    @property
    def url(self) -> str:
        return self._auth.base_url

    @property
    def in_outage(self) -> bool:
        """Can tokens not be refreshed now, as far as this process can see?

        Without a canary nobody may ask for hours; then a trouble of then is none of now, and health has its say.
        """
        if self._has_canary:
            return self.gate.in_outage
        return self.health.health.has_turned_bad or (self.gate.in_outage and not self.gate.is_unheard)

    @property
    def feed_age_seconds(self) -> float | None:
        last = self.memory.last_feed
        return max(self._clock.wall() - last, 0.0) if last is not None else None

    @property
    def degrade_mode(self) -> str:
        return degrade_policy(self._settings).effective_mode(has_feed=self.memory.last_feed is not None)

    @property
    def _asks(self) -> bool:
        """Can anybody be asked about a token? `verify = local` needs no secret; then opaque tokens are nobody's."""
        return self._validator is not None or not self._auth.lacks_secret

    @property
    def _has_canary(self) -> bool:
        """With a canary health needs no say: what a failed probe makes likely, the canary finds out. Where only opaque tokens are
        asked about, none flies without a secret: there may be nothing that answers."""
        is_asked_for_sure = self._settings.verify is Verify.REMOTE or self._auth.service_secret is not None
        return is_asked_for_sure and self._settings.breaker.canary

    async def open(self, stack: AsyncExitStack, *, tracing: Tracing | None, test_key: Key | None) -> None:
        """Load what survived, and make the way to the auth service. Does not wait for it.

        Args:
            stack: closes what was opened, in the end or when the opening fails.
            test_key: of E2E test tokens, where they count in the outages of this issuer.

        Raises:
            ConfigError, StoreError: the data directory cannot be used.

        Cancellation: the stack closes what was opened.
        """
        auth, limits = self._auth, self._settings.limits
        stack.push_async_callback(self.memory.aclose)
        await self.memory.open()
        tls = await tls_context(auth.ca_file, key=f"{self._plan.section}.ca_file")
        dns = AresDnsClient(auth.dns_servers, key=f"{self._plan.section}.dns_servers")
        stack.push_async_callback(dns.aclose)
        resolver = Resolver(dns, self._clock, tls=urlsplit(auth.base_url).scheme == "https")
        stack.push_async_callback(resolver.aclose)
        calls = HttpTransport(resolver, limit=limits.bulkhead + limits.abandoned + CANARY_CONNECTIONS, tls=tls)
        stack.push_async_callback(calls.aclose)
        background = HttpTransport(resolver, limit=BACKGROUND_CONNECTIONS, tls=tls)
        stack.push_async_callback(background.aclose)
        self._follow(stack, background)
        self._judge(stack, self._asker(stack, calls, tracing), tracing, test_key)
        self.surroundings = self._surroundings()
        self.gate.on_recovered = self._prove
        self.health.on_change = self._prove
        await self.keys.load()

    def start(self) -> None:
        """Begin what runs in the background."""
        settings = self._settings
        self._keep("key set", self.keys.run)
        self._keep("health", self.health.run)
        self._keep("tidy", self._tidy)
        if self._auth.revocations != "off":
            self._keep("revocations", self.follower.run)
        if self._has_canary:
            canary = Canary(
                self.inquirer,
                self.gate,
                self.memory,
                clock=self._clock,
                seconds=settings.deadline_seconds,
                failing_since=lambda: self.health.failing_since,
            )
            self._keep("canary", canary.run)
        self._house.metrics.watch_issuer(
            self.name, keyset_age=self.keys.age_seconds, feed_age=lambda: self.feed_age_seconds
        )

    def _keep(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        self._house.supervisor.keep(f"{what} of {self.name}", run)

    def _follow(self, stack: AsyncExitStack, background: HttpTransport) -> None:
        """What is heard of the auth service apart from its answers: key set, health, revocations."""
        house, settings, auth, caps = self._house, self._settings, self._auth, phase_caps(self._settings)
        files = DirectoryStateFiles(settings.data_dir, issuer=auth.expected_issuer, keyset_url=auth.keyset_url)
        stack.push_async_callback(files.aclose)
        self.keys = KeysetRefresher(
            self.name,
            HttpKeySetSource(background, url=auth.keyset_url, caps=caps),
            files,
            clock=self._clock,
            reaper=house.reaper,
            uniform=house.uniform,
        )
        stack.push_async_callback(self.keys.aclose, seconds=CLOSE_SECONDS)
        self.health = HealthMonitor(
            self.name,
            HttpHealthProbe(background, url=auth.base_url + auth.health_path, caps=caps),
            house.metrics,
            clock=self._clock,
            reaper=house.reaper,
            uniform=house.uniform,
            in_outage=lambda: self.gate.in_outage,
        )
        feed = HttpRevocationSource(
            background, url=auth.base_url + auth.revocations_path, credential=service_credential(auth), caps=caps
        )
        self.follower = RevocationFollower(
            self.name,
            feed,
            self.memory,
            clock=self._clock,
            reaper=house.reaper,
            uniform=house.uniform,
            on_items=self._on_revocations,
        )

    def _asker(self, stack: AsyncExitStack, calls: HttpTransport, tracing: Tracing | None) -> Validator:
        close = getattr(self._validator, "aclose", None)
        if close is not None:
            stack.push_async_callback(self._close_bounded, close)
        traceparent = tracing.traceparent if tracing is not None else None
        return self._validator or make_validator(self._auth, calls, phase_caps(self._settings), traceparent=traceparent)

    def _judge(
        self, stack: AsyncExitStack, validator: Validator, tracing: Tracing | None, test_key: Key | None
    ) -> None:
        """What decides about a token."""
        house, settings = self._house, self._settings
        self.inquirer = Inquirer(
            validator,
            self.gate,
            clock=self._clock,
            reaper=house.reaper,
            telemetry=house.telemetry,
            tracing=tracing,
        )
        degraded_rate = TokenBucket(settings.degrade.rate_per_second, settings.degrade.burst, self._clock.monotonic())
        self.verifier = Verifier(
            self.name,
            auth_policy(self._plan, asks=self._asks),
            inquirer=self.inquirer,
            gate=self.gate,
            cache=VerdictCache(cache_policy(settings)),
            memory=self.memory,
            keys=self.keys,
            degraded_rate=degraded_rate,
            clock=self._clock,
            telemetry=house.telemetry,
            e2e=self._test_tokens(test_key, degraded_rate),
        )
        stack.push_async_callback(self.verifier.aclose, seconds=CLOSE_SECONDS)

    def _test_tokens(self, key: Key | None, degraded_rate: TokenBucket) -> E2eTokens | None:
        policy = e2e_policy(self._settings)
        if policy is None or key is None or not self._plan.takes_test_tokens:
            return None
        log.warning("E2E test tokens are on", audience=policy.audience, tenant=policy.tenant, issuer=self.name)
        return E2eTokens(
            policy,
            key,
            degraded=degrade_policy(self._settings),
            degraded_rate=degraded_rate,
            published=self._house.published,
            gate=self.gate,
            memory=self.memory,
            reaper=self._house.reaper,
            clock=self._clock,
            telemetry=self._house.telemetry,
        )

    def _surroundings(self) -> Surroundings:
        house, settings = self._house, self._settings
        return Surroundings(
            verifier=self.verifier,
            verifier_of=house.verifier_of,
            admits=house.admits,
            registry=self.registry,
            denier=house.denier,
            telemetry=house.telemetry,
            clock=self._clock,
            spawn=self._spawn,
            deadline_seconds=settings.deadline_seconds,
            app_exit_seconds=settings.session.app_exit_seconds,
            session_policy=session_policy(settings),
            in_outage=lambda: self.in_outage,
            let_in_unproven=self._prove,
            wakes=house.wakes,
        )

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._house.supervisor.spawn(work, name=name)

    async def _close_bounded(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A validator of the user's own may hang; the door does not."""
        deadline = Deadline.after(self._clock.monotonic(), CLOSE_SECONDS)
        try:
            await bounded(close(), deadline, clock=self._clock, reaper=self._house.reaper)
        except DeadlinePassed:
            log.warning("the validator does not close", issuer=self.name)

    def _on_revocations(self, items: Sequence[RevocationItem]) -> None:
        closed = self.registry.revoke([of_tenant(item, self.tenant) for item in items])
        if items:
            log.info("revocations", issuer=self.name, items=len(items), closed=closed)

    def _prove(self) -> None:
        """The outage is over, or somebody was let in without proof though there is none (the gate was full)."""
        is_at_it = self._revalidation is not None and not self._revalidation.done()
        if not self.in_outage and not is_at_it:
            self._revalidation = self._house.supervisor.spawn(self._revalidate(), name=f"re-validation of {self.name}")

    async def _revalidate(self) -> None:
        """The auth service can be asked: ask anew about everybody who came in without it, with jitter and a rate.

        Who found the gate full is asked about again, until all are proven or their grants have ended.
        """
        told: set[AdmittedConnection] = set()
        while not self.in_outage and (left := self._unproven() - told):
            for connection in left:
                await asyncio.sleep(2 * self._house.uniform() / self._settings.session.revalidate_rate_per_second)
                if connection.session.phase is Phase.GRACE:
                    told.add(connection)
                    connection.recovered()
                elif connection.session.needs_proof:
                    self._spawn(connection.recheck(), "re-validation")
            await asyncio.sleep(self._settings.deadline_seconds)

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
            self._prove()  # a trouble that nobody asks about any more ends without a word
