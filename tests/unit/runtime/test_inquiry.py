"""One question under all the rules: attempts, what each outcome counts as, what is said of it."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.runtime_kit import Runtime, virtual

from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import BreakerPolicy, State
from doorward.core.deadline import Deadline
from doorward.core.limits import Lane
from doorward.core.verdict import Cause
from doorward.errors import (
    BackendError,
    BadAnswer,
    BadStatus,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    IdentityMismatch,
    PoolTimeout,
    ReadTimeout,
    ResolveError,
    ServiceCredentialRefused,
    Throttled,
    TlsError,
    WriteTimeout,
)
from doorward.runtime.gate import Pass, Unanswered
from doorward.runtime.inquiry import MAX_THROTTLE_SECONDS, classified

ADA = Valid(user_id="ada")


class Buggy:
    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        return Valid(json.loads("a-secret" + token))


def runtime(outcome: Any, *, seconds: float = 0.0, failures: int = 50, min_calls: int = 1_000) -> Runtime:
    made = Runtime(breaker=BreakerPolicy(failures=failures, min_calls=min_calls))
    made.validator.outcome, made.validator.seconds = outcome, seconds
    return made


async def ask(
    runtime: Runtime, *, seconds: float = 2.0, lane: Lane = Lane.PROVEN, complaint: str | None = None
) -> Valid | Invalid | Unanswered:
    passed = runtime.gate.enter(lane)
    assert isinstance(passed, Pass)
    try:
        deadline = Deadline.after(runtime.clock.monotonic(), seconds)
        return await runtime.inquirer.ask("token", passed, deadline, complaint=lambda _: complaint)
    finally:
        runtime.gate.leave(passed)


def cause_of(outcome: object) -> Cause | None:
    assert isinstance(outcome, Unanswered)
    return outcome.cause


def in_turn(*outcomes: Any) -> Any:
    """Another outcome for each call."""
    left = list(outcomes)
    return lambda _: left.pop(0)


@pytest.mark.parametrize("answer", [ADA, Invalid("expired")])
def test_an_answer_is_a_success_whatever_it_says(answer: Valid | Invalid) -> None:
    @virtual
    async def main() -> None:
        asked = runtime(answer)
        asked.gate.failed(Pass(Lane.PROVEN, asked.gate.breaker.acquire(0.0)).permit, 0.1, classified(ConnectError("x")))  # type: ignore[arg-type]
        assert await ask(asked) == answer
        assert not asked.gate.in_outage
        assert asked.metrics.counts["attempt", "auth", "valid" if answer is ADA else "invalid"] == 1

    main()


CAUSES: list[tuple[BackendError, Cause, bool]] = [
    (ConnectError("refused"), Cause.UPSTREAM, True),
    (ResolveError("no such name"), Cause.UPSTREAM, True),
    (TlsError("expired"), Cause.UPSTREAM, True),
    (ConnectionLost("reset"), Cause.UPSTREAM, True),
    (BadStatus(500), Cause.UPSTREAM, True),
    (ConnectTimeout("slow"), Cause.DEADLINE, True),
    (ReadTimeout("slow"), Cause.DEADLINE, True),
    (WriteTimeout("slow"), Cause.DEADLINE, True),
    (PoolTimeout("slow"), Cause.DEADLINE, True),
    (BadAnswer("not JSON"), Cause.PROTOCOL, True),
    (IdentityMismatch("another user"), Cause.PROTOCOL, False),
    (ServiceCredentialRefused("401"), Cause.CONFIG, True),
    (Throttled(429, 99.0), Cause.THROTTLED, True),
]


@pytest.mark.parametrize(("error", "cause", "fallback"), CAUSES, ids=[type(error).__name__ for error, _, _ in CAUSES])
def test_each_error_has_its_cause(error: BackendError, cause: Cause, fallback: bool) -> None:
    found = classified(error)
    assert (found.cause, found.fallback) == (cause, fallback)
    assert found.retry_after_seconds == (30.0 if cause is Cause.THROTTLED else None)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectError("refused"), 2),
        (ConnectionLost("stale"), 2),
        (BadStatus(502), 2),
        (BadStatus(503), 2),
        (BadStatus(504), 2),
        (BadStatus(500), 1),
        (ReadTimeout("slow"), 1),
        (BadAnswer("not JSON"), 1),
        (Throttled(429, 1.0), 1),
        (ServiceCredentialRefused("401"), 1),
    ],
    ids=str,
)
def test_only_a_call_that_was_most_likely_not_made_is_made_again(error: BackendError, attempts: int) -> None:
    @virtual
    async def main() -> None:
        asked = runtime(error)
        assert isinstance(await ask(asked), Unanswered)
        assert len(asked.validator.asked) == attempts

    main()


@virtual
async def test_the_second_attempt_may_bring_the_answer() -> None:
    asked = runtime(in_turn(ConnectError("refused"), ADA))
    assert await ask(asked) == ADA
    assert not asked.gate.in_outage


@virtual
async def test_no_second_attempt_without_time_for_it() -> None:
    asked = runtime(ConnectError("refused"), seconds=0.8)
    assert cause_of(await ask(asked, seconds=1.0)) is Cause.UPSTREAM
    assert len(asked.validator.asked) == 1


@virtual
async def test_second_attempts_have_a_budget() -> None:
    asked = runtime(ConnectError("refused"), failures=100_000, min_calls=100_000)
    for _ in range(100):
        await ask(asked)
    second = len(asked.validator.asked) - 100
    assert 10 <= second <= 10 + 100 * 0.1 + 1


@virtual
async def test_no_second_attempt_when_the_first_opened_the_breaker() -> None:
    asked = runtime(ConnectError("refused"), failures=1)
    await ask(asked)
    assert asked.gate.breaker.state is State.OPEN
    assert len(asked.validator.asked) == 1


@virtual
async def test_silence_ends_at_the_deadline() -> None:
    asked = runtime(ADA, seconds=60.0)
    began = asked.clock.monotonic()
    assert cause_of(await ask(asked, seconds=2.0)) is Cause.DEADLINE
    assert asked.clock.monotonic() - began == pytest.approx(2.0)
    assert asked.metrics.counts["wait_bounded", "remote"] == 1
    assert asked.metrics.counts["attempt", "auth", "deadline_passed"] == 1


@virtual
async def test_a_call_that_does_not_end_is_counted_until_it_does() -> None:
    asked = runtime(ADA, seconds=60.0)
    asked.validator.stubborn_seconds = 5.0
    await ask(asked, seconds=1.0)
    assert asked.gate.bulkhead.abandoned == 1
    await asyncio.sleep(5.1)
    assert asked.is_quiet()


@virtual
async def test_throttled_holds_the_lane_and_not_the_breaker() -> None:
    asked = runtime(Throttled(429, 12.0), failures=1)
    assert cause_of(await ask(asked, lane=Lane.UNPROVEN)) is Cause.THROTTLED
    assert asked.gate.breaker.state is State.CLOSED
    assert asked.gate.throttled_seconds(Lane.UNPROVEN) == pytest.approx(12.0)
    assert asked.gate.throttled_seconds(Lane.PROVEN) == 0


@virtual
async def test_a_complaint_is_a_failure_that_nobody_may_come_in_on() -> None:
    asked = runtime(ADA, failures=1)
    outcome = await ask(asked, complaint="the answer names another user")
    assert isinstance(outcome, Unanswered)
    assert (outcome.cause, outcome.fallback) == (Cause.PROTOCOL, False)
    assert asked.gate.breaker.state is State.OPEN


@pytest.mark.parametrize(
    "answer",
    [
        None,
        True,
        {"valid": True},
        Valid(user_id=""),
        Valid(user_id=7),  # type: ignore[arg-type]
        Valid("ada", expires_at=math.nan),
        Valid("ada", expires_at=-math.inf),
        Valid("ada", expires_at=1_750_000_000_000.0),
        Valid("ada", expires_at=True),
        Valid("ada", expires_at="2026-01-01"),  # type: ignore[arg-type]
        Valid("ada", cache_seconds=math.nan),
        Valid("ada", cache_seconds=-1.0),
    ],
)
def test_what_is_no_answer_is_never_taken_for_one(answer: object) -> None:
    @virtual
    async def main() -> None:
        assert cause_of(await ask(runtime(answer))) is Cause.PROTOCOL

    main()


@virtual
async def test_an_end_at_infinity_is_none() -> None:
    endless = Valid("ada", expires_at=math.inf, cache_seconds=math.inf)
    assert await ask(runtime(endless)) == Valid("ada")
    assert await ask(runtime(Valid("ada", expires_at=10**9))) == Valid("ada", expires_at=1e9)


@virtual
async def test_a_validator_whose_times_are_none_is_told_to_the_operator() -> None:
    with capture_logs() as logs:
        await ask(runtime(Valid("ada", expires_at=math.nan)))
    (said,) = [each for each in logs if each["log_level"] == "error"]
    assert "`expires_at` of the validator's Valid" in said["detail"]


@virtual
async def test_a_wait_of_nan_seconds_is_the_longest() -> None:
    outcome = await ask(runtime(Throttled(429, math.nan)))
    assert isinstance(outcome, Unanswered)
    assert outcome.retry_after_seconds == MAX_THROTTLE_SECONDS


@virtual
async def test_a_validator_that_raises_anything_could_not_ask() -> None:
    with capture_logs() as logs:
        assert cause_of(await ask(runtime(KeyError("secret-token")))) is Cause.PROTOCOL
    assert "secret-token" not in str(logs)


@virtual
async def test_a_bug_of_a_validator_is_told_with_its_place_and_nothing_more() -> None:
    made = runtime(None)
    made.inquirer.validator = Buggy()
    with capture_logs() as logs:
        await ask(made)
    place = f"{Path(__file__).name}:{Buggy.validate.__code__.co_firstlineno + 1} in validate"
    assert (logs[0]["event"], logs[0]["error"]) == ("the validator raised", "JSONDecodeError")
    assert logs[0]["where"] == f"{place} > decoder.py:{logs[0]['where'].rpartition(':')[2]}"
    assert logs[0]["where"].endswith(" in raw_decode")
    assert "a-secret" not in str(logs)


@virtual
async def test_a_validator_that_cancels_itself_could_not_ask() -> None:
    assert cause_of(await ask(runtime(asyncio.CancelledError()))) is Cause.UPSTREAM


@virtual
async def test_trouble_is_said_once_until_there_is_an_answer() -> None:
    refused, broken = ServiceCredentialRefused("401"), BadStatus(500)
    asked = runtime(in_turn(refused, refused, broken, broken, ADA, broken))
    with capture_logs() as logs:
        for _ in range(6):
            await ask(asked)
    alarms = [(log["log_level"], log.get("cause")) for log in logs]
    assert alarms == [("critical", None), ("error", "upstream"), ("error", "upstream")]
    assert "check service_id and service_secret of this issuer" in str(logs[0]["mend"])
