"""The runtime put together over fake ports, for virtual time: no sockets, no threads, no files."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import BreakerPolicy, CircuitBreaker
from doorward.core.claims import ClaimsPolicy
from doorward.core.credential import Presented
from doorward.core.deadline import Deadline
from doorward.core.decisions import CachePolicy, VerdictCache
from doorward.core.e2e import E2ePolicy
from doorward.core.keyset import Key
from doorward.core.limits import AddressLimit, Bulkhead, TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Cause, Source, Unavailable, Verdict
from doorward.errors import ConnectError, StoreError
from doorward.runtime.authenticator import Authenticator, Handshake, HandshakePolicy
from doorward.runtime.bounded import Reaper
from doorward.runtime.canary import Canary
from doorward.runtime.e2e import E2eTokens
from doorward.runtime.gate import Gate
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock, NodeState, RevocationItem, RevocationPage, StoredBar, StoredKeySet
from doorward.runtime.telemetry import Telemetry, Trace
from doorward.runtime.verifier import AuthPolicy, Judgement, Verifier
from doorward.runtime.verifiers import Verifiers
from doorward.testing import TokenMint, VirtualClock, run_virtual

ISSUER = "https://auth.example.test"
NAME = "auth"
AUDIENCE = "doorward"
DEADLINE_SECONDS = 2.0
HANG_SECONDS = 3_600.0


P = ParamSpec("P")
T = TypeVar("T")


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


async def outcome_of(work: Awaitable[T], *, within_seconds: float) -> T:
    """The result, which must come in time."""
    async with asyncio.timeout(within_seconds):
        return await work


class FakeMetrics:
    """Counts every call by its name and labels."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def decision(self, verdict: str, source: str, reason: str, seconds: float) -> None:
        self.counts["decision", verdict, source, reason] += 1

    def attempt(self, issuer: str, result: str, seconds: float) -> None:
        self.counts["attempt", issuer, result] += 1

    def probe(self, issuer: str, result: str, seconds: float) -> None:
        self.counts["probe", issuer, result] += 1

    def wait_bounded(self, step: str) -> None:
        self.counts["wait_bounded", step] += 1

    def deadline_overrun(self, seconds: float) -> None:
        self.counts["deadline_overrun",] += 1

    def breaker(self, issuer: str, state: str) -> None:
        self.counts["breaker", issuer, state] += 1

    def breaker_transition(self, issuer: str, to: str) -> None:
        self.counts["breaker_transition", issuer, to] += 1

    def degraded_admit(self, assurance: str) -> None:
        self.counts["degraded_admit", assurance] += 1

    def e2e_admit(self) -> None:
        self.counts["e2e_admit",] += 1

    def expiry_grace(self) -> None:
        self.counts["expiry_grace",] += 1

    def revalidation(self, result: str) -> None:
        self.counts["revalidation", result] += 1

    def loop_lag(self, seconds: float) -> None:
        self.counts["loop_lag",] += 1


@dataclass
class FakeValidator:
    """Answers with `outcome` after `seconds`: a value, an error to raise, or a function of the token that gives either."""

    outcome: Any = field(default_factory=lambda: Valid(user_id="ada"))
    seconds: float = 0.0
    stubborn_seconds: float = 0.0
    """How long it goes on after it was cancelled."""
    asked: list[str] = field(default_factory=list)
    running: int = 0

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        self.asked.append(token)
        self.running += 1
        try:
            await asyncio.sleep(self.seconds)
            return await self._answer(token)
        except asyncio.CancelledError:
            if self.stubborn_seconds:
                await asyncio.sleep(self.stubborn_seconds)
            raise
        finally:
            self.running -= 1

    async def _answer(self, token: str) -> Valid | Invalid:
        outcome = self.outcome(token) if callable(self.outcome) else self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        answer: Valid | Invalid = outcome
        return answer


@dataclass
class FakeKeys:
    """A `KeySetSource` that serves a mint's published keys, or raises `error`, after `seconds`."""

    mint: TokenMint
    seconds: float = 0.0
    error: BaseException | None = None
    document: bytes | None = None
    fetches: int = 0

    async def fetch(self, *, deadline: Deadline) -> bytes:
        self.fetches += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.document if self.document is not None else json.dumps(self.mint.key_set()).encode()


@dataclass
class FakeFiles:
    """`StateFiles` in memory."""

    stored: StoredKeySet | None = None
    error: StoreError | None = None
    seconds: float = 0.0

    async def load_keyset(self) -> StoredKeySet | None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.stored

    async def save_keyset(self, keyset: StoredKeySet) -> None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.stored = keyset


@dataclass
class FakeStore:
    """A `NodeStore` in memory. Each write takes `seconds` after its effect; `error` makes every call fail."""

    seconds: float = 0.0
    error: StoreError | None = None
    bars: dict[bytes, StoredBar] = field(default_factory=dict)
    revocations: dict[RevocationItem, float] = field(default_factory=dict)
    feed_epoch: str | None = None
    feed_cursor: str | None = None
    last_feed: float | None = None
    last_contact: float | None = None
    contacts_written: int = 0
    redeemed: dict[tuple[str, str], float] = field(default_factory=dict)
    is_closed: bool = False

    async def open(self) -> NodeState:
        await self._write()
        return NodeState(
            key=bytes(32),
            bars=list(self.bars.values()),
            revocations=list(self.revocations.items()),
            feed_epoch=self.feed_epoch,
            feed_cursor=self.feed_cursor,
            last_feed=self.last_feed,
            last_contact=self.last_contact,
        )

    async def add_bar(self, bar: StoredBar) -> None:
        if self.error is None:
            known = self.bars.get(bar.digest, bar)
            self.bars[bar.digest] = StoredBar(bar.digest, max(known.until, bar.until), known.proven or bar.proven)
        await self._write()

    async def remove_bar(self, digest: bytes) -> None:
        if self.error is None:
            self.bars.pop(digest, None)
        await self._write()

    async def apply_page(self, page: RevocationPage, *, forget_at: float, last_feed: float) -> None:
        if self.error is None:
            self.revocations.update(dict.fromkeys(page.items, forget_at))
            self.feed_epoch, self.feed_cursor, self.last_feed = page.epoch, page.cursor, last_feed
        await self._write()

    async def note_contact(self, wall: float) -> None:
        if self.error is None:
            self.last_contact = wall
            self.contacts_written += 1
        await self._write()

    async def forget_expired(self, wall: float, *, revocations_before: float = 0.0) -> bool:
        before = max(wall, revocations_before)
        if self.error is None:
            self.revocations = {item: until for item, until in self.revocations.items() if until >= before}
            self.bars = {digest: bar for digest, bar in self.bars.items() if bar.until >= wall}
            self.redeemed = {used: until for used, until in self.redeemed.items() if until >= wall}
        await self._write()
        return False

    async def redeem(self, kind: str, identifier: str, until: float) -> bool:
        is_first = (kind, identifier) not in self.redeemed
        if self.error is None:
            self.redeemed[kind, identifier] = until
        await self._write()
        return is_first

    async def aclose(self) -> None:
        self.is_closed = True

    async def _write(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


@dataclass
class Feed:
    """A `RevocationSource` that plays a list of pages and errors; after it there is no news, or, if it is `silent`, no answer."""

    script: list[RevocationPage | Exception] = field(default_factory=list)
    silent: bool = False
    polls: list[tuple[str | None, str | None, float]] = field(default_factory=list)

    async def poll(
        self, *, epoch: str | None, cursor: str | None, wait_seconds: float, deadline: Deadline
    ) -> RevocationPage:
        self.polls.append((epoch, cursor, wait_seconds))
        if not self.script:
            await asyncio.sleep(HANG_SECONDS if self.silent else wait_seconds)
            return page(cursor or "0", epoch=epoch or "e1")
        await asyncio.sleep(0)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def page(cursor: str, *items: RevocationItem, epoch: str = "e1", more: bool = False) -> RevocationPage:
    return RevocationPage(epoch, cursor, 0.0, more, items)


def allowed(verdict: Verdict) -> Allow:
    assert isinstance(verdict, Allow), verdict
    return verdict


def told(verdict: Verdict) -> tuple[str, Source, Cause | None]:
    """Code, step and cause of a refusal."""
    assert not isinstance(verdict, Allow), verdict
    return verdict.code, verdict.source, verdict.cause if isinstance(verdict, Unavailable) else None


class Runtime:
    """A door's runtime without the door. `start` loads what is stored and fetches the key set; nothing runs in the background."""

    def __init__(
        self,
        name: str = NAME,
        *,
        clock: Clock | None = None,
        mint: TokenMint | None = None,
        store: FakeStore | None = None,
        files: FakeFiles | None = None,
        breaker: BreakerPolicy | None = None,
        bulkhead: Bulkhead | None = None,
        cache: CachePolicy | None = None,
        degraded_rate: TokenBucket | None = None,
        max_addresses_rate: float = 1_000_000.0,
        max_pending: int = 4_096,
        e2e: tuple[E2ePolicy, Key] | None = None,
        **policy: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.mint = mint or TokenMint(ISSUER, audience=AUDIENCE, wall=self.clock.wall)
        self.validator = FakeValidator(self.answer)
        self.source = FakeKeys(self.mint)
        self.files = files or FakeFiles()
        self.store = store or FakeStore()
        self.metrics = FakeMetrics()
        self.records: list[DecisionRecord] = []
        self.telemetry = Telemetry(self.metrics, clock=self.clock, emit=self.records.append)
        self.reaper = Reaper()
        self.rejected: set[str] = set()
        now = self.clock.monotonic()
        self.gate = Gate(
            name,
            CircuitBreaker(breaker or BreakerPolicy(), now),
            bulkhead or Bulkhead(64, unproven=16, abandoned=64),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        claims: ClaimsPolicy = policy.get("claims", ClaimsPolicy(ISSUER, frozenset({AUDIENCE})))
        self.memory = NodeMemory(self.store, self.clock, tenant=claims.tenant)
        self.keys = KeysetRefresher(
            name, self.source, self.files, clock=self.clock, reaper=self.reaper, uniform=lambda: 0.5
        )
        self.inquirer = Inquirer(
            self.validator, self.gate, clock=self.clock, reaper=self.reaper, telemetry=self.telemetry
        )
        self.canary = Canary(self.inquirer, self.gate, self.memory, clock=self.clock, seconds=DEADLINE_SECONDS)
        handshakes = HandshakePolicy(max_pending=max_pending)
        self.policy = AuthPolicy(
            **{"claims": claims, "algorithms": frozenset({"ES256"}), "typ": None, "audiences": (AUDIENCE,), **policy}
        )
        degraded_rate = degraded_rate or TokenBucket(500, 2_000, now)
        self.verifier = Verifier(
            name,
            self.policy,
            inquirer=self.inquirer,
            gate=self.gate,
            cache=VerdictCache(cache or CachePolicy()),
            memory=self.memory,
            keys=self.keys,
            degraded_rate=degraded_rate,
            clock=self.clock,
            telemetry=self.telemetry,
            e2e=self._test_tokens(*e2e, degraded_rate) if e2e is not None else None,
        )
        self.authenticator = Authenticator(
            handshakes,
            Verifiers([self.verifier], opaque=self.verifier),
            addresses=AddressLimit(max_addresses_rate, max_addresses_rate),
            clock=self.clock,
        )

    def _test_tokens(self, policy: E2ePolicy, key: Key, degraded_rate: TokenBucket) -> E2eTokens:
        return E2eTokens(
            policy,
            key,
            degraded=self.policy.degraded,
            degraded_rate=degraded_rate,
            published=lambda: [self.keys.keyset] if self.keys.keyset is not None else [],
            gate=self.gate,
            memory=self.memory,
            reaper=self.reaper,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    async def start(self) -> None:
        await self.memory.open()
        await self.keys.load()
        await self.keys.look_again(self.deadline())

    async def aclose(self) -> None:
        await self.verifier.aclose(seconds=1.0)
        await self.keys.aclose(seconds=1.0)
        await self.reaper.aclose(seconds=1.0)

    # What the auth service says

    def answer(self, token: str) -> Valid | Invalid:
        """The honest answer: whoever the mint made the token for, unless it was rejected. Canaries are invalid."""
        if token in self.rejected or token.startswith("canary-"):
            return Invalid("invalid_token")
        return valid_of(token)

    def goes_down(self) -> None:
        self.validator.outcome = ConnectError("refused")

    def comes_back(self) -> None:
        self.validator.outcome, self.validator.seconds = self.answer, 0.0

    # Handshakes

    def deadline(self, seconds: float = DEADLINE_SECONDS) -> Deadline:
        return Deadline.after(self.clock.monotonic(), seconds)

    async def decide(self, token: str | None, **handshake: Any) -> Judgement:
        return await self.authenticator.decide(handshake_of(token, **handshake), self.deadline(), Trace(self.clock))

    async def verdict(self, token: str | None, **handshake: Any) -> Verdict:
        """The final verdict: a provisional one is followed to its end."""
        judgement = await self.decide(token, **handshake)
        if judgement.question is not None:
            return await self.verifier.settle(judgement.question)
        return judgement.verdict

    def token(self, user_id: str = "ada", **claims: Any) -> str:
        return self.mint.sign(self.mint.claims(user_id, **claims))

    def is_quiet(self) -> bool:
        """Nothing in flight, nothing abandoned, nobody pending."""
        bulkhead = self.gate.bulkhead
        return (
            bulkhead.total == 0
            and bulkhead.abandoned == 0
            and len(self.reaper) == 0
            and self.authenticator.pending == 0
            and self.validator.running == 0
        )


def handshake_of(token: str | None, **fields: Any) -> Handshake:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    defaults: dict[str, Any] = {
        "path": "/ws",
        "address": "192.0.2.7",
        "origin": None,
        "host": "chat.example.test",
        "scheme": "wss",
        "presented": Presented(headers),
        "route": Route(),
    }
    return Handshake(**{**defaults, **fields})


def valid_of(token: str) -> Valid:
    """What an honest service says of a token of the mint. An opaque one is `user-<anything>`."""
    parts = token.split(".")
    if len(parts) != 3:
        return Valid(user_id=token.removeprefix("opaque-").partition("-")[0] or "ada")
    claims = claims_of(token)
    return Valid(
        user_id=claims["sub"],
        permissions=frozenset(claims["permissions"]),
        session_id=claims.get("sid"),
        expires_at=claims.get("exp"),
    )


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return content
