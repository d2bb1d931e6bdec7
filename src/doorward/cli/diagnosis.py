"""What `doorward doctor` says about what it found. Pure: failures in, plain words and one verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from doorward.config import AUTH, variable_for
from doorward.core.claims import ClaimsPolicy
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
    Throttled,
    TlsError,
    WriteTimeout,
)

SKEW_SECONDS: Final = 5.0
LEEWAY_SECONDS: Final = ClaimsPolicy("", frozenset()).leeway_seconds
CERTIFICATE_DAYS: Final = 14


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Step(StrEnum):
    """In the order in which they explain each other: the first failure is the verdict."""

    SETTINGS = "settings"
    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    CREDENTIAL = "credential"
    CONTRACT = "contract"
    HEALTH = "health"
    KEYSET = "key set"
    CLOCK = "clock"
    REVOCATIONS = "revocations"
    CLIENTS = "clients"


@dataclass(frozen=True, slots=True)
class Finding:
    """`sentence` and `mend` have no full stop; together they make one sentence. `seconds`: how long the step took."""

    step: Step
    status: Status
    sentence: str
    mend: str | None = None
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sentence}: {self.mend}." if self.mend else f"{self.sentence}."


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked (`host` and `peer` = host:port), what, and for how many seconds we waited at most.

    `section`: where the settings say so.
    """

    host: str
    peer: str
    what: str
    seconds: float
    section: str = AUTH


def verdict(findings: Sequence[Finding], url: str | None) -> str:
    """The one sentence that comes first."""
    for status in (Status.FAIL, Status.WARN):
        found = sorted((one for one in findings if one.status is status), key=lambda one: list(Step).index(one.step))
        if found:
            return str(found[0]) if status is Status.FAIL else f"The auth service at {url} works, but: {found[0]}"
    return f"All is well: the auth service at {url} answers, knows us, and keeps to the contract."


def exit_code(findings: Sequence[Finding]) -> int:
    """0 fine, 1 trouble, 2 the settings cannot work."""
    failed = {finding.step for finding in findings if finding.status is Status.FAIL}
    return 2 if Step.SETTINGS in failed else min(len(failed), 1)


def bad_settings(error: ConfigError) -> Finding:
    return Finding(Step.SETTINGS, Status.FAIL, f"The settings cannot work: {str(error).rstrip('.')}")


def no_secret(section: str) -> Finding:
    sentence = f"Our own service credential is missing ({section}.service_secret is not set)"
    return Finding(Step.SETTINGS, Status.FAIL, sentence, needs_secret(section))


def needs_secret(section: str) -> str:
    return f"set {variable_for(f'{section}.service_secret')} (doorward authd init makes a pair)"


def skipped(step: Step, why: str = "An earlier step failed") -> Finding:
    return Finding(step, Status.SKIPPED, why)


def no_health_page(path: str, section: str) -> Finding:
    """Health is for the eyes and the alerts, and decides no handshake."""
    sentence = f"There is nothing at {path}, so a sick auth service is seen later"
    return Finding(Step.HEALTH, Status.WARN, sentence, f"name a page that answers 200 in {section}.health_path")


def no_keys(url: str, section: str) -> Finding:
    """Right for a service without JWTs; a mistake for one with them."""
    sentence = f"There is no key set at {url}, so in an outage only those get in who were let in a short time before"
    return Finding(Step.KEYSET, Status.WARN, sentence, f"if its tokens are JWTs, name it in {section}.jwks_url")


def failure(step: Step, error: BackendError, asked: Asked) -> Finding:
    """What this failure at this step means, and what to do. Credential and contract ask alike, so each tells only its own."""
    is_ours = isinstance(error, ServiceCredentialRefused)
    if step is Step.CREDENTIAL and not is_ours:
        return skipped(step, "What came back says nothing about our credential")
    if step is Step.CLIENTS:
        return skipped(step, f"No door answers at {asked.what}; check-config says what trusted_proxies means")
    if step is Step.CONTRACT and is_ours:
        return skipped(step, "It judges no token for somebody whom it does not know")
    explain = {Step.DNS: _no_address, Step.TCP: _no_connection, Step.TLS: _no_tls}.get(step, _no_answer)
    sentence, mend = explain(error, asked)
    return Finding(step, Status.FAIL, sentence, mend)


def _no_address(error: BackendError, asked: Asked) -> tuple[str, str]:
    why = str(error).removeprefix(f"{asked.host}: ")
    mend = f"check the host name in {asked.section}.url, and the name servers ({asked.section}.dns_servers, else the system's)"
    return f"DNS gives no address for {asked.host} ({why})", mend


def _no_connection(error: BackendError, asked: Asked) -> tuple[str, str]:
    """Cases: refused; reset at once; unreachable; silence."""
    match error.__cause__:
        case ConnectionRefusedError():
            return (
                f"Nobody accepts connections at {asked.peer}",
                f"start the auth service, or correct {asked.section}.url",
            )
        case ConnectionResetError():
            return f"{asked.peer} breaks connections off at once", "look at its own log, and at what is in between"
    if isinstance(error, ConnectError):
        return f"There is no way to {asked.peer} ({error})", f"check the network and the address in {asked.section}.url"
    return (
        f"{asked.peer} does not answer a connection attempt within {asked.seconds:.1f} s",
        f"check that the host is up, the firewall, and {asked.section}.url (proxy variables of the environment are not used)",
    )


def _no_tls(error: BackendError, asked: Asked) -> tuple[str, str]:
    if isinstance(error, TlsError):
        mend = f"name the private CA in {asked.section}.ca_file, or correct the host name or the scheme in {asked.section}.url"
        return f"There is no TLS connection with {asked.peer} ({error})", mend
    return (
        f"{asked.peer} accepts connections and does not answer the TLS handshake within {asked.seconds:.1f} s",
        "check what listens there: it hangs, or does not speak TLS",
    )


def _no_answer(error: BackendError, asked: Asked) -> tuple[str, str]:
    """Cases: our credential; silence; a cut connection; a status; a throttle; another contract; the path broke since."""
    look = "look at its own log and load"
    match error:
        case ServiceCredentialRefused():
            return (
                "The auth service refuses our own service credential",
                f"check {asked.section}.service_id and {asked.section}.service_secret (doorward authd init makes a pair)",
            )
        case ReadTimeout() | WriteTimeout() | DeadlinePassed():
            return (
                f"The auth service accepts connections and does not answer {asked.what} within {asked.seconds:.1f} s",
                f"it hangs or is overloaded, so {look}",
            )
        case ConnectionLost():
            broken = f"The auth service breaks the connection before it has answered {asked.what}"
            return broken, "look at its own log, and at what is in between"
        case BadStatus():
            return f"The auth service answers {error.status} to {asked.what}", look
        case Throttled():
            throttled = f"The auth service answers {error.status} to {asked.what}: it asks us to slow down"
            return throttled, "raise its limit for this service, or " + look
        case BadAnswer():
            return (
                f"What {asked.peer} answers to {asked.what} is not the contract ({error})",
                f"check {asked.section}.url and the path, and that an auth service listens there",
            )
        case ResolveError() | ConnectError() | ConnectTimeout() | TlsError():
            broken = f"A connection for {asked.what} cannot be made, or breaks at once ({error})"
            return broken, "check its address, its own log, and what is in between"
    return f"{asked.what} could not be asked ({error})", look


@dataclass(frozen=True, slots=True)
class Dated:
    """An answer with a date: how many seconds its clock runs ahead, and how many it took to come."""

    skew_seconds: float
    seconds: float


def clock(answers: Sequence[Dated]) -> Finding:
    """How far the auth service's clock is off, by the answer that speaks best for it."""
    if not answers:
        return skipped(Step.CLOCK, "No answer with a date")
    best = min(answers, key=lambda answer: abs(answer.skew_seconds))
    return replace(_clock(best.skew_seconds), seconds=best.seconds)


def _clock(skew: float) -> Finding:
    facts = {"skew_seconds": round(skew, 1)}
    if abs(skew) <= SKEW_SECONDS:
        return Finding(Step.CLOCK, Status.OK, "The clocks agree, as far as whole seconds tell", facts=facts)
    sentence = f"The auth service's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours"
    beyond = f", more than the leeway of {LEEWAY_SECONDS:.0f} s" if abs(skew) > LEEWAY_SECONDS else ""
    effect = "fresh tokens look as if from the future" if skew > 0 else "tokens expire early"
    status = Status.FAIL if beyond else Status.WARN
    return Finding(
        Step.CLOCK, status, f"{sentence}{beyond}, so {effect}", "run a time service on both hosts", facts=facts
    )


def clients(door: str, forwarded: float) -> Finding:
    """Can the door tell its clients apart? `forwarded`: handshakes that came through a private address it does not trust."""
    facts = {"door": door, "untrusted_forwards": int(forwarded)}
    if forwarded < ENOUGH:
        return Finding(Step.CLIENTS, Status.OK, f"The door at {door} tells its clients apart by address", facts=facts)
    sentence = f"All clients behind a proxy count as one at {door}, since trusted_proxies does not name it"
    mend = "its log names the address; add it to trusted_proxies, or they share one rate limit"
    return Finding(Step.CLIENTS, Status.WARN, f"{sentence} ({forwarded:.0f} handshakes)", mend, facts=facts)


def certificate(peer: str, seconds_left: float | None) -> Finding:
    """A TLS connection was made; how long will there be one?"""
    if seconds_left is None:
        return Finding(Step.TLS, Status.OK, f"{peer} proves its name")
    days = seconds_left / 86_400
    facts = {"certificate_days_left": round(days, 1)}
    if days >= CERTIFICATE_DAYS:
        return Finding(Step.TLS, Status.OK, f"{peer} proves its name, for {days:.0f} more days", facts=facts)
    return Finding(
        Step.TLS, Status.WARN, f"The certificate of {peer} expires in {days:.1f} days", "renew it", facts=facts
    )
