"""What can be played on a door that somebody else wrote, and what is refused before anything is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.drill.faults import TROUBLES
from doorward.drill.outside import Target
from doorward.drill.outside_plays import QUICK_FAULTS, STRAYS, expectations, scripts
from doorward.drill.outside_trial import Door, per_second
from doorward.drill.results import CurvePoint, Kind, Phase
from doorward.errors import UsageError

HERE = Target(Door("ws://127.0.0.1:8000/ws", ["token"]), "http://127.0.0.1:9000", 8901)
ELSEWHERE = replace(HERE, door=Door("ws://192.0.2.1/ws", ["token"]))


def names(target: Target) -> set[str]:
    return {script.name for script in target.scripts}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (replace(HERE, door=Door("http://127.0.0.1/ws", ["token"])), "--target is a ws:// or wss:// URL"),
        (replace(HERE, upstream="ftp://127.0.0.1"), "--auth-upstream is an http:// or https:// URL"),
        (replace(HERE, upstream="http://"), "--auth-upstream is an http:// or https:// URL"),
        (replace(HERE, upstream="https://auth.example/base"), "paths come from the door"),
        (replace(HERE, door=Door("ws://127.0.0.1/ws", [])), "--token-file is empty"),
    ],
)
def test_what_cannot_be_judged_is_refused(target: Target, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        target.check()


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:9000", "https://auth.example", "https://auth.example:8443/"])
def test_plain_and_tls_services_can_be_stood_before(upstream: str) -> None:
    replace(HERE, upstream=upstream).check()


def test_faults_clients_and_crowds_are_played() -> None:
    able = {name for name, trouble in TROUBLES.items() if not trouble.tls and trouble.dns is None}

    assert names(HERE) == able | {each.value for each in STRAYS} | {
        "two-hundred-at-once",
        "silent-siege",
        "reconnect-storm",
    }


def test_a_siege_comes_from_a_hundred_addresses_or_not_at_all() -> None:
    assert names(HERE) - names(ELSEWHERE) == {"silent-siege"}


def test_quick_is_the_few_that_stand_for_the_rest() -> None:
    assert names(replace(HERE, quick=True)) == QUICK_FAULTS | {"half-sent", "big-cookie"}


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (["silence"], {"silence"}),
        (["secret-*", "half-sent"], {"secret-refused", "secret-refused-late", "half-sent"}),
        (["clients"], {each.value for each in STRAYS}),
    ],
)
def test_a_pattern_means_names_or_a_family(only: list[str], wanted: set[str]) -> None:
    assert names(replace(HERE, only=only)) == wanted


@pytest.mark.parametrize("only", [["locusts"], ["silence", "dns-stall"], ["tls-stall"]])
def test_a_pattern_that_means_nothing_here_is_an_error_that_names_what_there_is(only: list[str]) -> None:
    with pytest.raises(UsageError, match=r"there are .*silence"):
        _ = replace(HERE, only=only).scripts


def test_a_good_token_may_have_to_wait_in_a_fault_and_is_never_called_bad() -> None:
    table = expectations(TROUBLES["silence"])

    assert table[Phase.HEALTHY, Kind.JWT] == {"allow:*"}
    assert table[Phase.FAULT, Kind.JWT] == {"allow:*", "unavailable:*"}
    assert table[Phase.FAULT, Kind.STRANGER] == {"deny:*", "unavailable:*"}
    assert table[Phase.HEALED, Kind.STRANGER] == {"deny:*"}


def test_where_the_question_can_be_answered_nobody_has_to_wait() -> None:
    assert expectations(TROUBLES["late"])[Phase.FAULT, Kind.JWT] == {"allow:*"}
    assert expectations(None)[Phase.FAULT, Kind.JWT] == {"allow:*"}


def test_every_script_expects_something_of_everybody_in_every_phase() -> None:
    for script in scripts(HERE.door.url):
        assert set(script.expect) == {
            (phase, kind) for phase in Phase for kind in (Kind.JWT, Kind.STRANGER, Kind.NO_TOKEN)
        }


def test_who_came_before_the_repair_is_not_in_the_curve() -> None:
    assert per_second([9.0, 10.2, 10.9, 12.0], 10.0) == [CurvePoint(0.0, 2), CurvePoint(1.0, 0), CurvePoint(2.0, 1)]
    assert per_second([9.0], 10.0) == []
