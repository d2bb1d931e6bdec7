from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import doorward
from doorward.core.verdict import (
    TABLE,
    Action,
    Allow,
    Assurance,
    Cause,
    Code,
    Deny,
    Principal,
    Row,
    Source,
    Unavailable,
    close_code,
    close_reason,
    row_of,
)

DENIALS = {
    Code.AUTH_REQUIRED,
    Code.BAD_CREDENTIAL_FORMAT,
    Code.TOKEN_INVALID,
    Code.TOKEN_EXPIRED,
    Code.TOKEN_REVOKED,
    Code.TOKEN_REJECTED,
    Code.FORBIDDEN,
    Code.ORIGIN_DENIED,
    Code.HEADERS_TOO_LARGE,
    Code.AUTH_TIMEOUT,
    Code.MESSAGE_TOO_BIG,
}
OUTAGES = set(Code) - DENIALS

# Written out by hand from the specification, not from the code: (HTTP, close, code, cause, action, window).
EXPECTED = [
    (401, 3000, "AUTH_REQUIRED", None, "sign_in", None),
    (400, 1008, "BAD_CREDENTIAL_FORMAT", None, "stop", None),
    (401, 3000, "TOKEN_INVALID", None, "sign_in", None),
    (401, 3000, "TOKEN_EXPIRED", None, "sign_in", None),
    (401, 3000, "TOKEN_REVOKED", None, "sign_in", None),
    (401, 3000, "TOKEN_REJECTED", None, "sign_in", None),
    (403, 3003, "FORBIDDEN", None, "stop", None),
    (403, None, "ORIGIN_DENIED", None, "stop", None),
    (431, None, "HEADERS_TOO_LARGE", None, "stop", None),
    (None, 3008, "AUTH_TIMEOUT", None, "retry", None),
    (429, 1013, "RATE_LIMITED", None, "retry", (1.0, 10.0)),
    (None, 1009, "MESSAGE_TOO_BIG", None, "stop", None),
    (503, 1013, "SERVICE_UNAVAILABLE", "deadline", "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "upstream", "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "breaker_open", "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "throttled", "retry", (1.0, 30.0)),
    (503, 1013, "OVERLOADED", None, "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "config", "retry", (30.0, 30.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "protocol", "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "keyset", "retry", (1.0, 5.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "stale", "retry", (10.0, 30.0)),
    (503, 1013, "SERVICE_UNAVAILABLE", "store", "retry", (1.0, 5.0)),
    (None, 3000, "TOKEN_REVOKED", None, "sign_in", None),
    (500, 1011, "INTERNAL", None, "retry", None),
    (503, 1012, "RESTARTING", None, "retry", (0.0, 5.0)),
]


@pytest.mark.parametrize(
    ("row", "expected"), list(zip(TABLE, EXPECTED, strict=True)), ids=[row.situation for row in TABLE]
)
def test_every_row_is_as_specified(row: Row, expected: tuple[object, ...]) -> None:
    assert (row.http, row.close, row.code, row.cause, row.action, row.retry_seconds) == expected
    assert row.ops


def test_every_code_and_every_cause_has_a_row() -> None:
    assert {row.code for row in TABLE} == set(Code)
    assert {row.cause for row in TABLE} == {None, *Cause}


@pytest.mark.parametrize("code", sorted(OUTAGES))
@pytest.mark.parametrize("cause", [None, *Cause])
def test_an_outage_never_tells_a_client_to_give_up_or_to_sign_in(code: Code, cause: Cause | None) -> None:
    row = row_of(Unavailable(code, Source.REMOTE, cause))

    assert row.code is code
    assert row.action is Action.RETRY
    assert row.http not in {None, 400, 401, 403, 404}
    assert close_code(row) in {1011, 1012, 1013}
    assert close_code(row, style="http") in {1011, 1012, 4429, 4503}


@pytest.mark.parametrize("cause", Cause)
def test_the_cause_picks_the_row(cause: Cause) -> None:
    assert row_of(Unavailable(Code.SERVICE_UNAVAILABLE, Source.REMOTE, cause)).cause is cause


@pytest.mark.parametrize("code", sorted(DENIALS))
def test_a_no_never_looks_like_an_outage(code: Code) -> None:
    row = row_of(Deny(code, Source.LOCAL))

    assert row.code is code
    assert row.http != 503
    assert close_code(row) not in {1000, 1011, 1012, 1013}
    assert row.retry_seconds is None


def test_before_the_handshake_a_revoked_token_is_a_401() -> None:
    assert row_of(Deny(Code.TOKEN_REVOKED, Source.REVOKED)).http == 401


@pytest.mark.parametrize("row", TABLE, ids=[row.situation for row in TABLE])
def test_no_close_code_is_a_normal_closure(row: Row) -> None:
    iana, http = close_code(row), close_code(row, style="http")

    assert iana in {1008, 1009, 1011, 1012, 1013, 3000, 3003, 3008}
    assert http in {1008, 1009, 1011, 1012, 4401, 4403, 4408, 4429, 4503}


def test_the_http_style_has_a_code_of_its_own_for_the_address_limit() -> None:
    limited = row_of(Unavailable(Code.RATE_LIMITED, Source.ADMIT))
    overloaded = row_of(Unavailable(Code.OVERLOADED, Source.ADMIT))

    assert [close_code(row, style="http") for row in (limited, overloaded)] == [4429, 4503]


def test_the_close_reason_names_code_wait_and_decision() -> None:
    assert close_reason(Code.OVERLOADED, "d-1", 1840) == "OVERLOADED;retry_after_ms=1840;id=d-1"
    assert close_reason(Code.TOKEN_EXPIRED, "d-1", None) == "TOKEN_EXPIRED;id=d-1"


@pytest.mark.parametrize("decision_id", ["x" * 200, "\u00e9" * 100])
def test_the_close_reason_fits_into_a_close_frame(decision_id: str) -> None:
    reason = close_reason(Code.SERVICE_UNAVAILABLE, decision_id, 10**9)

    assert 122 <= len(reason.encode()) <= 123


def test_each_verdict_names_its_reason() -> None:
    who = Principal("ada", "https://auth.example")

    assert Allow(who, Assurance.LIVE, Source.REMOTE).reason == "live"
    assert Allow(who, Assurance.LOCAL, Source.FALLBACK, degraded=True).reason == "degraded_local"
    assert Deny(Code.TOKEN_REVOKED, Source.REVOKED).reason == "token_revoked"
    assert Unavailable(Code.SERVICE_UNAVAILABLE, Source.REMOTE, Cause.STALE).reason == "stale"
    assert Unavailable(Code.OVERLOADED, Source.ADMIT).reason == "overloaded"


def test_the_three_reasons_share_no_word() -> None:
    allowed = {Allow(Principal("a", "i"), a, Source.CACHE, degraded=d).reason for a in Assurance for d in (False, True)}
    denied = {Deny(code, Source.LOCAL).reason for code in DENIALS}
    unavailable = {Unavailable(code, Source.LOCAL, cause).reason for code in OUTAGES for cause in (None, *Cause)}

    assert not allowed & denied
    assert not denied & unavailable
    assert not allowed & unavailable


@pytest.mark.parametrize(("name", "codes"), [("Deny", DENIALS), ("Unavailable", OUTAGES)])
def test_the_product_gives_each_verdict_its_own_codes_only(name: str, codes: set[Code]) -> None:
    written = list(_codes_written(name))

    assert written
    assert [(where, code) for where, code in written if Code[code] not in codes] == []


def _codes_written(verdict: str) -> Iterator[tuple[str, str]]:
    """Where the source makes this verdict with a literal code."""
    for path in Path(doorward.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != verdict:
                continue
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Attribute) and ast.unparse(argument.value) == "Code":
                    yield f"{path.name}:{node.lineno}", argument.attr
