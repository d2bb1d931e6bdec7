"""Two issuers that name their keys alike: whatever a token says and whoever signed it, nobody comes in with the other's word.

The books are kept apart from the door: who signed a token, and which of the two services called it valid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime_kit import AUDIENCE, Runtime, handshake_of, valid_of

from doorward.core.answer import Invalid, Valid
from doorward.core.claims import ClaimsPolicy
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.limits import AddressLimit
from doorward.core.verdict import Allow, Code, Deny, Verdict
from doorward.errors import ConnectError
from doorward.runtime.authenticator import Authenticator, HandshakePolicy
from doorward.runtime.telemetry import Trace
from doorward.runtime.verifiers import Verifiers
from doorward.testing import TokenMint, VirtualLoop

OURS, ACME = "https://auth.example.test", "https://acme.example.test"
NAMES = {OURS: "auth", ACME: "acme"}
SHARED_KID = "key-1"

ISSUERS = st.sampled_from(
    (OURS, OURS, ACME, ACME, f"{OURS}/", f"{ACME}/", ACME.upper(), "https://Auth.example.test", f" {ACME}", "", None)
)
SIGNERS = st.sampled_from((OURS, ACME, "a stranger"))
KIDS = st.sampled_from((SHARED_KID, SHARED_KID, None, "key-2"))
USERS = st.sampled_from(("ada", "acme:ada"))
MODES = st.sampled_from(("honest", "accepts anything", "down"))


@dataclass(frozen=True)
class Kind:
    """Of a token. Two of one kind are one and the same token, so that caches and bars have their say."""

    issuer: str | None
    signer: str
    kid: str | None
    user: str


@dataclass(frozen=True)
class Step:
    kind: Kind
    ours: str
    acme: str


KINDS = st.builds(Kind, ISSUERS, SIGNERS, KIDS, USERS)
STEPS = st.lists(st.builds(Step, KINDS, MODES, MODES), min_size=1, max_size=8)


@dataclass
class World:
    """Both issuers behind one pipeline. `said_valid`: which service did, of which token."""

    has_keys: bool
    modes: dict[str, str] = field(default_factory=dict)
    said_valid: set[tuple[str, str]] = field(default_factory=set)
    tokens: dict[Kind, str] = field(default_factory=dict)

    async def start(self) -> None:
        ours = Runtime(
            mint=TokenMint(OURS),
            claims=ClaimsPolicy(OURS, frozenset({AUDIENCE}), reserved=("acme:",)),
            degraded=DegradePolicy(mode=Mode.LOCAL_JWT),
        )
        self.clock = ours.clock
        acme = Runtime(
            "acme",
            clock=ours.clock,
            mint=TokenMint(ACME),
            claims=ClaimsPolicy(ACME, frozenset({AUDIENCE}), tenant="acme"),
            degraded=DegradePolicy(mode=Mode.LOCAL_JWT),
        )
        self.runtimes = {OURS: ours, ACME: acme}
        self.mints = {OURS: ours.mint, ACME: acme.mint, "a stranger": TokenMint("")}
        for name, runtime in self.runtimes.items():
            runtime.mint._wall = self.clock.wall
            (key,) = runtime.mint.key_set()["keys"]
            runtime.source.document = json.dumps({"keys": [{**key, "kid": SHARED_KID}]}).encode()
            runtime.validator.outcome = lambda token, name=name: self._say(name, token)
            await runtime.memory.open()
            await runtime.memory.contact()
            if self.has_keys:
                await runtime.keys.look_again(runtime.deadline())
        verifiers = [runtime.verifier for runtime in self.runtimes.values()]
        self.front = Authenticator(
            HandshakePolicy(),
            Verifiers(verifiers, opaque=verifiers[0]),
            addresses=AddressLimit(1e6, 1e6),
            clock=self.clock,
        )

    def _say(self, name: str, token: str) -> Valid | Invalid | Exception:
        mode = self.modes[name]
        if mode == "down":
            return ConnectError("refused")
        kind = next((kind for kind, known in self.tokens.items() if known == token), None)
        honest = kind is not None and kind.signer == name and kind.issuer == name
        if mode == "accepts anything" or honest:
            self.said_valid.add((name, token))
            return valid_of(token)
        return Invalid("no")

    def token(self, kind: Kind) -> str:
        if kind not in self.tokens:
            mint = self.mints[kind.signer]
            claims = {**TokenMint("", wall=self.clock.wall).claims(kind.user), "iss": kind.issuer}
            self.tokens[kind] = mint.sign(claims, header={"kid": kind.kid})
        return self.tokens[kind]

    async def play(self, steps: Sequence[Step]) -> None:
        await self.start()
        for step in steps:
            self.modes = {OURS: step.ours, ACME: step.acme}
            token = self.token(step.kind)
            for verdict in await self._handshake(token):
                self._check(step.kind, token, verdict)
        for runtime in self.runtimes.values():
            await runtime.aclose()

    async def _handshake(self, token: str) -> list[Verdict]:
        asked = {name: len(runtime.validator.asked) for name, runtime in self.runtimes.items()}
        deadline = self.runtimes[OURS].deadline()
        judgement = await self.front.decide(handshake_of(token), deadline, Trace(self.clock))
        verdicts = [judgement.verdict]
        if judgement.question is not None:
            named = next(name for name, short in NAMES.items() if short == judgement.issuer)
            verdicts.append(await self.runtimes[named].verifier.settle(judgement.question))
        kind = next(kind for kind, known in self.tokens.items() if known == token)
        for name, runtime in self.runtimes.items():
            if kind.issuer != name:
                assert len(runtime.validator.asked) == asked[name], "asked about a token that names another"
        return verdicts

    def _check(self, kind: Kind, token: str, verdict: Verdict) -> None:
        if kind.issuer not in NAMES:
            assert isinstance(verdict, Deny)
            assert verdict.code is Code.TOKEN_INVALID
        if not isinstance(verdict, Allow):
            return
        assert kind.issuer is not None
        principal = verdict.principal
        assert principal.issuer == kind.issuer
        tenant = "acme" if kind.issuer == ACME else None
        assert principal.tenant == tenant
        assert principal.user_id == (f"acme:{kind.user}" if tenant else kind.user)
        assert tenant is not None or not principal.user_id.startswith("acme:"), "a name of somebody else's"
        if self.has_keys:
            assert kind.signer == kind.issuer, "let in by a key of another"
            assert kind.kid in {SHARED_KID, None}
        else:
            assert (kind.issuer, token) in self.said_valid, "let in on nobody's word"


@given(steps=STEPS, has_keys=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nobody_comes_in_with_the_word_of_another_issuer(steps: Sequence[Step], has_keys: bool) -> None:
    loop = VirtualLoop(limit_seconds=1e9)
    try:
        loop.run_until_complete(World(has_keys).play(steps))
    finally:
        loop.close()
