"""Every failure has its words, and the first cause is the verdict."""

from __future__ import annotations

import pytest

from doorward.cli import diagnosis
from doorward.cli.diagnosis import Asked, Dated, Finding, Status, Step
from doorward.core.proxies import ENOUGH
from doorward.errors import (
    BackendError,
    BadAnswer,
    BadStatus,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    DeadlinePassed,
    ReadTimeout,
    ResolveError,
    ServiceCredentialRefused,
    StoreError,
    Throttled,
    TlsError,
)

ASKED = Asked("auth.test", "auth.test:443", "/auth/validate", 1.5)


def caused(cause: OSError) -> ConnectError:
    error = ConnectError("why")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("step", "error", "sentence"),
    [
        (Step.DNS, ResolveError("auth.test: no such name"), "DNS gives no address for auth.test (no such name)"),
        (Step.DNS, DeadlinePassed("late"), "DNS gives no address for auth.test (late)"),
        (Step.TCP, caused(ConnectionRefusedError()), "Nobody accepts connections at auth.test:443"),
        (Step.TCP, caused(ConnectionResetError()), "auth.test:443 breaks connections off at once"),
        (Step.TCP, caused(OSError()), "There is no way to auth.test:443 (why)"),
        (Step.TCP, ConnectTimeout(""), "auth.test:443 does not answer a connection attempt within 1.5 s"),
        (Step.TCP, DeadlinePassed(""), "auth.test:443 does not answer a connection attempt within 1.5 s"),
        (Step.TLS, TlsError("self-signed"), "There is no TLS connection with auth.test:443 (self-signed)"),
        (
            Step.TLS,
            DeadlinePassed(""),
            "auth.test:443 accepts connections and does not answer the TLS handshake within 1.5 s",
        ),
        (Step.CREDENTIAL, ServiceCredentialRefused(""), "The auth service refuses our own service credential"),
        (
            Step.CONTRACT,
            ReadTimeout(""),
            "The auth service accepts connections and does not answer /auth/validate within 1.5 s",
        ),
        (
            Step.HEALTH,
            ConnectionLost("x"),
            "The auth service breaks the connection before it has answered /auth/validate",
        ),
        (Step.HEALTH, BadStatus(503), "The auth service answers 503 to /auth/validate"),
        (Step.KEYSET, Throttled(429, 3), "The auth service answers 429 to /auth/validate: it asks us to slow down"),
        (
            Step.KEYSET,
            BadAnswer("not JSON"),
            "What auth.test:443 answers to /auth/validate is not the contract (not JSON)",
        ),
        (
            Step.REVOCATIONS,
            ConnectError("reset"),
            "A connection for /auth/validate cannot be made, or breaks at once (reset)",
        ),
        (Step.REVOCATIONS, StoreError("odd"), "/auth/validate could not be asked (odd)"),
    ],
)
def test_a_failure_in_words(step: Step, error: BackendError, sentence: str) -> None:
    finding = diagnosis.failure(step, error, ASKED)
    assert (finding.step, finding.status, finding.sentence) == (step, Status.FAIL, sentence)
    assert finding.mend
    assert str(finding) == f"{sentence}: {finding.mend}."


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (Step.CREDENTIAL, ReadTimeout("")),
        (Step.CREDENTIAL, BadAnswer("not JSON")),
        (Step.CONTRACT, ServiceCredentialRefused("")),
        (Step.CLIENTS, ConnectError("refused")),
    ],
)
def test_what_says_nothing_about_a_step_leaves_it_open(step: Step, error: BackendError) -> None:
    finding = diagnosis.failure(step, error, ASKED)
    assert (finding.step, finding.status, finding.mend) == (step, Status.SKIPPED, None)
    assert finding.sentence


@pytest.mark.parametrize(("forwarded", "status"), [(0, Status.OK), (ENOUGH - 1, Status.OK), (ENOUGH, Status.WARN)])
def test_clients_that_cannot_be_told_apart(forwarded: int, status: Status) -> None:
    finding = diagnosis.clients("127.0.0.1:8000", forwarded)
    assert finding.status is status
    assert ("trusted_proxies" in str(finding)) is (status is Status.WARN)


def test_the_first_cause_is_the_verdict_whatever_the_order() -> None:
    findings = [
        Finding(Step.HEALTH, Status.FAIL, "Sick", "look"),
        Finding(Step.CREDENTIAL, Status.FAIL, "Refused", "check"),
        Finding(Step.TCP, Status.WARN, "Half dead", "mend"),
    ]
    assert diagnosis.verdict(findings, "http://a") == "Refused: check."
    assert diagnosis.exit_code(findings) == 1


def test_a_warning_is_no_trouble() -> None:
    findings = [Finding(Step.TCP, Status.WARN, "Half dead", "mend"), Finding(Step.DNS, Status.OK, "Fine")]
    assert diagnosis.verdict(findings, "http://a") == "The auth service at http://a works, but: Half dead: mend."
    assert diagnosis.exit_code(findings) == 0


def test_bad_settings_have_an_exit_code_of_their_own() -> None:
    findings = [diagnosis.bad_settings(ConfigError("auth.url is wrong.")), Finding(Step.DNS, Status.FAIL, "Gone")]
    assert diagnosis.verdict(findings, None) == "The settings cannot work: auth.url is wrong."
    assert diagnosis.exit_code(findings) == 2


@pytest.mark.parametrize(
    ("skews", "status", "words"),
    [
        ([], Status.SKIPPED, "No answer with a date"),
        ([0.0, 400.0], Status.OK, "The clocks agree"),
        ([-5.0], Status.OK, "The clocks agree"),
        ([5.1], Status.WARN, "5 s ahead of ours, so fresh tokens"),
        ([-20.0, -21.0], Status.WARN, "20 s behind ours, so tokens expire early"),
        ([31.0], Status.FAIL, "31 s ahead of ours, more than the leeway of 30 s"),
    ],
)
def test_clock(skews: list[float], status: Status, words: str) -> None:
    finding = diagnosis.clock([Dated(skew, abs(skew) / 100) for skew in skews])
    assert finding.status is status
    assert words in finding.sentence
    assert finding.seconds == min((abs(skew) / 100 for skew in skews), default=0.0), (
        "of the answer that it is read from"
    )


@pytest.mark.parametrize(
    ("days", "status", "words"),
    [
        (None, Status.OK, "a:443 proves its name"),
        (90, Status.OK, "for 90 more days"),
        (13.9, Status.WARN, "expires in 13.9 days"),
    ],
)
def test_certificate(days: float | None, status: Status, words: str) -> None:
    finding = diagnosis.certificate("a:443", None if days is None else days * 86_400)
    assert finding.status is status
    assert words in finding.sentence
