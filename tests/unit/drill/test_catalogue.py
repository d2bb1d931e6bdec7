"""The catalogue is whole: every fault that the drill promises is in it, and the matrix is pairwise."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from doorward.drill.catalogue import chosen, every_scenario
from doorward.drill.faults import TROUBLES
from doorward.drill.matrix import QUICK, rows
from doorward.drill.scenarios import (
    Behaviour,
    Burst,
    Misbehave,
    OpenBreaker,
    Pause,
    Refuse,
    Restart,
    Rotate,
    Scenario,
    Siege,
    Skew,
    Step,
    Storm,
    Strike,
)
from doorward.errors import UsageError
from doorward.testing import DnsFaultKind, FaultKind

SCENARIOS = {scenario.name: scenario for scenario in every_scenario()}

UPSTREAM_FAULTS = {
    "refused": FaultKind.REFUSE,
    "connect black hole": FaultKind.BLACK_HOLE,
    "reset": FaultKind.RESET,
    "accept then silence": FaultKind.SILENCE,
    "header stall": FaultKind.HEADER_STALL,
    "body drip": FaultKind.DRIP,
    "truncated JSON": FaultKind.TRUNCATE,
    "TLS stall": FaultKind.TLS_STALL,
    "stale keep-alive": FaultKind.STALE_KEEP_ALIVE,
    "90 % slow": FaultKind.LATENCY,
}
ANSWERS = {
    "huge body": b"200 OK",
    "wrong JSON": b'{"valid":"true"}',
    "401 on our secret, at once": b"WWW-Authenticate: Basic",
    "401 on our secret, after a delay": b"WWW-Authenticate: Basic",
    "429": b"429 Too Many Requests",
    "500": b"500 Internal Server Error",
    "503 + Retry-After": b"503 Service Unavailable",
}
NAMES = {
    "refused": "refused",
    "connect black hole": "black-hole",
    "reset": "reset",
    "accept then silence": "silence",
    "header stall": "header-stall",
    "body drip": "drip",
    "huge body": "huge-body",
    "truncated JSON": "truncated",
    "wrong JSON": "wrong-json",
    "401 on our secret, at once": "secret-refused",
    "401 on our secret, after a delay": "secret-refused-late",
    "429": "too-many",
    "500": "error-500",
    "503 + Retry-After": "overloaded-503",
    "TLS stall": "tls-stall",
    "DNS stall": "dns-stall",
    "DNS NXDOMAIN": "dns-nxdomain",
    "stale keep-alive": "stale-keep-alive",
    "flapping": "flapping",
    "90 % slow": "mostly-slow",
}
"""The faults of the auth service and of the way to it, as the design names them, and what they are called here."""


def steps(name: str) -> list[Step]:
    return list(SCENARIOS[name].steps)


def has(name: str, *wanted: Step | type[Step]) -> bool:
    """Are these among the steps, in this order?"""
    left = iter(steps(name))
    return all(
        any(step == want or (isinstance(want, type) and isinstance(step, want)) for step in left) for want in wanted
    )


@pytest.mark.parametrize(("said", "name"), NAMES.items())
def test_every_fault_of_the_auth_service_is_played_against_each_state_of_the_breaker(said: str, name: str) -> None:
    plays = [each for each in SCENARIOS.values() if each.family == "matrix" and each.factors["fault"] == name]
    assert {each.factors["breaker"] for each in plays} == {"closed", "open", "half_open"}
    for play in plays:
        strikes = [step for step in play.steps if isinstance(step, Strike)]
        assert [step.trouble for step in strikes] == [name]
        assert [step.half_open for step in strikes] == [play.factors["breaker"] == "half_open"]
        assert any(isinstance(step, OpenBreaker) for step in play.steps) is (play.factors["breaker"] == "open")
        assert all(burst.crowd for burst in play.steps if isinstance(burst, Burst))


@pytest.mark.parametrize(("said", "kind"), UPSTREAM_FAULTS.items())
def test_what_strikes_is_what_the_name_says(said: str, kind: FaultKind) -> None:
    assert TROUBLES[NAMES[said]].fault.kind is kind


@pytest.mark.parametrize(("said", "words"), ANSWERS.items())
def test_what_is_answered_is_what_the_name_says(said: str, words: bytes) -> None:
    fault = TROUBLES[NAMES[said]].fault
    assert fault.answer is not None
    assert words in fault.answer.head
    assert (b"Retry-After" in fault.answer.head) is (said in {"429", "503 + Retry-After"})
    assert (fault.seconds > 0) is ("after a delay" in said)
    assert (sum(map(len, fault.answer.chunks())) > 1 << 20) is (said == "huge body")


def test_names_are_lost_and_the_service_flaps() -> None:
    lost = {name: trouble.dns.kind for name in ("dns-stall", "dns-nxdomain") if (trouble := TROUBLES[name]).dns}
    assert lost == {"dns-stall": DnsFaultKind.BLACK_HOLE, "dns-nxdomain": DnsFaultKind.NXDOMAIN}
    assert len({fault.kind for fault, _ in TROUBLES["flapping"].waves}) == 2
    assert TROUBLES["mostly-slow"].fault.share == 0.9


@pytest.mark.parametrize(
    ("said", "name", "wanted"),
    [
        ("clock skew", "clock-ahead", (Skew(20.0), Strike)),
        ("clock skew", "clock-behind", (Skew(-60.0), Strike)),
        ("key rotation", "key-rotation", (Pause, Rotate)),
        ("key rotation during an outage", "key-rotation-in-outage", (Strike, Rotate)),
        ("restart during outage", "restart-in-outage", (Strike, Restart())),
        ("restart during outage", "killed-in-outage", (Strike, Restart(kill=True))),
        ("rejected, then outage", "rejected-then-outage", (Refuse, Strike)),
        ("silent siege", "silent-siege", (Siege,)),
        ("reconnect storm of 2,000 after an outage", "reconnect-storm", (Strike, Storm)),
    ],
)
def test_every_other_trouble_is_played(said: str, name: str, wanted: tuple[Step | type[Step], ...]) -> None:
    assert has(name, *wanted)


@pytest.mark.parametrize(
    ("said", "behaviour"),
    [
        ("client half-sends the upgrade", Behaviour.HALF_SENT),
        ("client sends nothing", Behaviour.SAYS_NOTHING),
        ("9 KB cookie", Behaviour.BIG_COOKIE),
        ("200 headers", Behaviour.MANY_HEADERS),
        ("client never sends the auth frame", Behaviour.NO_AUTH_FRAME),
        ("reader that stops reading", Behaviour.STOPS_READING),
    ],
)
def test_every_client_at_fault_is_played_and_its_end_is_judged(said: str, behaviour: Behaviour) -> None:
    play = SCENARIOS[behaviour.value]
    (misbehave,) = (step for step in play.steps if isinstance(step, Misbehave))
    assert misbehave.behaviour is behaviour
    assert misbehave.honest_per_second > 0
    assert play.rules.strays[behaviour].clients == misbehave.clients > 0


def test_the_storm_is_of_two_thousand_at_the_rate_that_is_the_default() -> None:
    play = SCENARIOS["reconnect-storm"]
    (storm,) = (step for step in play.steps if isinstance(step, Storm))
    assert play.rules.storm is not None
    assert (storm.clients, play.rules.storm.clients, play.rules.storm.rate_per_second) == (2_000, 2_000, 100.0)


def test_every_siege_and_storm_is_judged() -> None:
    for play in SCENARIOS.values():
        for step in play.steps:
            if isinstance(step, Siege):
                assert play.rules.strays[Behaviour.SAYS_NOTHING].clients == step.clients
            if isinstance(step, Storm):
                assert play.rules.storm is not None
                assert play.rules.storm.clients == step.clients


def test_the_matrix_is_pairwise() -> None:
    """Every two values of two factors meet in some row."""
    table = [row.factors for row in rows()]
    values = {factor: {each[factor] for each in table} for factor in table[0]}
    assert values["fault"] == set(TROUBLES)
    assert values["cache"] == {"cold", "warm"}
    assert values["keys"] == {"with", "without"}
    assert values["breaker"] == {"closed", "open", "half_open"}
    for one, other in combinations(values, 2):
        met = {(each[one], each[other]) for each in table}
        assert met == set(product(values[one], values[other])), f"{one} and {other}"


def test_a_row_plays_what_its_factors_say() -> None:
    for play in SCENARIOS.values():
        if play.family == "matrix":
            assert play.keyset is (play.factors["keys"] == "with")
            assert ("cache.positive_seconds" in play.settings) is (play.factors["cache"] == "warm")


def test_what_could_pass_without_its_fault_must_feel_it() -> None:
    """The answers to a fault that can be lived with are the same as without it."""
    lived_with = {"dns-stall", "dns-nxdomain", "stale-keep-alive", "late", "flapping", "mostly-slow"}
    felt = {each.factors["fault"] for each in SCENARIOS.values() if each.family == "matrix" and each.rules.felt}
    assert felt == lived_with


def test_every_answer_is_expected_of_everybody_who_asks() -> None:
    for play in SCENARIOS.values():
        for step in play.steps:
            if isinstance(step, Burst):
                assert all((step.phase, kind) in play.rules.expect for kind in step.crowd), play.name


def test_names_are_unique_and_the_quick_ones_are_there() -> None:
    scenarios: list[Scenario] = list(every_scenario())
    assert len({each.name for each in scenarios}) == len(scenarios)
    assert {each.name for each in scenarios} >= QUICK
    assert {each.name for each in chosen([], quick=True)} > QUICK


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    assert {each.family for each in chosen(["clients", "silence/*"], quick=False)} == {"clients", "matrix"}
    with pytest.raises(UsageError, match="no-such"):
        chosen(["no-such"], quick=False)
