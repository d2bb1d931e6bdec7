"""Settings become policies: the numbers of each environment, and what is set over them."""

from __future__ import annotations

from typing import Any

import pytest

from doorward import Settings
from doorward.asgi.policies import auth_policy, breaker_policy, phase_caps, route_rules, session_policy
from doorward.core.credential import Transport
from doorward.errors import ConfigError


def settings(**values: Any) -> Settings:
    return Settings(**{"auth": {"url": "https://auth.example"}, **values})


@pytest.mark.parametrize(
    ("environment", "caps", "failures", "window", "longest"),
    [
        ("staging", (1, 2, 1, 2), 2, 10, 30),
        ("production", (2, 5, 3, 5), 5, None, 60),
        ("development", (1, 3, 1, 3), 5, None, 60),
    ],
)
def test_the_numbers_of_each_environment(
    environment: str, caps: tuple[float, ...], failures: int, window: float | None, longest: float
) -> None:
    chosen = settings(environment=environment)
    phase = phase_caps(chosen)
    assert (phase.connect_seconds, phase.read_seconds, phase.write_seconds, phase.pool_seconds) == caps
    breaker = breaker_policy(chosen)
    assert (breaker.failures, breaker.failure_window_seconds, breaker.max_open_seconds) == (failures, window, longest)


def test_what_is_set_holds() -> None:
    chosen = settings(caps={"read_seconds": 0.5}, breaker={"failures": 3, "max_open_seconds": 7}, deadline_seconds=3.0)
    assert phase_caps(chosen).read_seconds == 0.5
    assert phase_caps(chosen).connect_seconds == 2
    assert phase_caps(chosen).address_seconds == pytest.approx(1.0)
    assert (breaker_policy(chosen).failures, breaker_policy(chosen).max_open_seconds) == (3, 7)


def test_a_route() -> None:
    (route,) = route_rules(
        settings(
            routes=({"path": "/x", "transports": ("cookie",), "required_scopes": ("a",), "allow_degraded": False},)
        )
    )
    assert route.transports == {Transport.COOKIE}
    assert (route.required_scopes, route.allow_degraded) == (frozenset({"a"}), False)


def test_a_transport_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"(?s)routes.*'carrier-pigeon'"):
        route_rules(settings(routes=({"path": "/x", "transports": ("carrier-pigeon",)},)))


def test_verify_local_asks_nobody() -> None:
    (asking,), (silent,) = settings().each_issuer(), settings(verify="local").each_issuer()
    assert auth_policy(asking).remote
    assert not auth_policy(silent).remote


def test_each_issuer_has_its_own_rules() -> None:
    """What an entry says holds for it alone; what it does not say is as for all."""
    acme = {
        "name": "acme",
        "url": "https://acme.example",
        "verify": "local",
        "audience": ("one", "two"),
        "degrade": {"grant_seconds": 60, "privileged_scopes": ("write",)},
        "breaker": {"failures": 2},
    }
    first, second = settings(
        issuers=(acme,),
        degrade={"grant_seconds": 600, "max_stale_seconds": 7},
        breaker={"slow_seconds": 0.3},
    ).each_issuer()
    assert (auth_policy(first).remote, auth_policy(second).remote) == (True, False)
    assert auth_policy(second).audiences == ("one", "two")
    degraded = auth_policy(first).degraded, auth_policy(second).degraded
    assert [(each.grant_seconds, each.max_stale_seconds) for each in degraded] == [(600, 7), (60, 7)]
    assert [session_policy(each.settings).privileged_scopes for each in (first, second)] == [set(), {"write"}]
    breakers = breaker_policy(first.settings), breaker_policy(second.settings)
    assert [(each.failures, each.slow_seconds) for each in breakers] == [(5, 0.3), (2, 0.3)]
    claims = auth_policy(first).claims, auth_policy(second).claims
    assert [(each.issuer, each.tenant, each.reserved) for each in claims] == [
        ("https://auth.example", None, ("acme:",)),
        ("https://acme.example", "acme", ()),
    ]
