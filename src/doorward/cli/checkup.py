"""What `doorward doctor` looks at: the way to the auth service, one step after another, each within a bound of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from doorward.adapters.dns import AresDnsClient
from doorward.adapters.health_http import HttpHealthProbe
from doorward.adapters.jwks_http import HttpKeySetSource
from doorward.adapters.revocations_http import HttpRevocationSource
from doorward.adapters.state_files import DirectoryStateFiles
from doorward.adapters.transport import HttpAnswer, HttpTransport, tls_context
from doorward.asgi.asking import make_validator, service_credential
from doorward.asgi.policies import phase_caps, route_rules
from doorward.cli import diagnosis
from doorward.cli.agent import in_words
from doorward.cli.diagnosis import Asked, Dated, Finding, Status, Step, needs_secret, skipped
from doorward.config import OneIssuer, Verify
from doorward.core.answer import Invalid, Valid, shown
from doorward.core.deadline import Deadline
from doorward.core.keyset import KEY_TYPES, BadKeySet, KeySet, parse_keyset
from doorward.errors import BackendError, BadAnswer, BadStatus, ConfigError, ConnectError, ConnectTimeout, TlsError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.clock import SystemClock
from doorward.runtime.ports import Address, FeedMissing
from doorward.runtime.resolver import Resolver

CONNECT_SECONDS: Final = 0.8
ASK_SECONDS: Final = 2.0
DOOR_SECONDS: Final = 0.8
CLOSE_SECONDS: Final = 0.2
CONNECTIONS: Final = 8
MAX_ADDRESSES: Final = 8
MAX_METRICS_BYTES: Final = 1 << 20
MAX_SHOWN_KIDS: Final = 5

Look = Callable[[Deadline], Coroutine[Any, Any, Finding]]


class Checkup:
    """One look at everything. A failure is a finding like any other; what cannot be looked at any more is skipped.

    Args:
        issuer: whose auth service to look at.
        asks_door: look at a door that runs here too, which is one for all issuers.
        deadline: of the whole.

    Raises:
        ConfigError: there is no auth service to look at.
    """

    def __init__(self, issuer: OneIssuer, *, deadline: Deadline, asks_door: bool = True) -> None:
        settings = self._settings = issuer.settings
        self._asks_door = asks_door
        self._section = issuer.section
        self._deadline = deadline
        self._clock = SystemClock()
        self._reaper = Reaper()
        self._stack = AsyncExitStack()
        self._findings: dict[Step, Finding] = {}
        self._addresses: Sequence[Address] = ()
        self._dated: list[Dated] = []
        parts = urlsplit(settings.auth.base_url)
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)

    async def run(self) -> Sequence[Finding]:
        """One finding for each `Step`, in their order.

        Cancellation: what is open is closed within `CLOSE_SECONDS`.
        """
        try:
            await self._look_at_everything()
        finally:
            closing = asyncio.ensure_future(self._stack.aclose())
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
            await self._reaper.aclose(seconds=CLOSE_SECONDS)
        return [self._findings.get(step, skipped(step)) for step in Step]

    async def _look_at_everything(self) -> None:
        if not await self._take(Step.SETTINGS, ASK_SECONDS, self._prepare):
            return
        reached = (
            await self._take(Step.DNS, ASK_SECONDS, self._resolve)
            and await self._take(Step.TCP, CONNECT_SECONDS, self._connect)
            and await self._take(Step.TLS, CONNECT_SECONDS, self._shake_hands)
        )
        auth = self._settings.auth
        elsewhere = urlsplit(auth.keyset_url).netloc != urlsplit(auth.base_url).netloc
        questions = {Step.CLIENTS: self._ask_the_door}
        if reached or elsewhere:
            questions[Step.KEYSET] = self._fetch_keys
        if reached:
            questions |= {
                Step.CREDENTIAL: self._introduce,
                Step.CONTRACT: self._ask,
                Step.HEALTH: self._probe,
                Step.REVOCATIONS: self._poll,
            }
        await asyncio.gather(*(self._take(step, ASK_SECONDS, look) for step, look in questions.items()))
        self._findings[Step.CLOCK] = diagnosis.clock(self._dated)
        if self._settings.verify is Verify.REMOTE and auth.lacks_secret:
            self._findings[Step.SETTINGS] = diagnosis.no_secret(self._section)

    async def _take(self, step: Step, cap_seconds: float, look: Look) -> bool:
        """Take one look and note what was found. Says whether to look further."""
        began = self._clock.monotonic()
        if step in {Step.CREDENTIAL, Step.CONTRACT}:
            cap_seconds = min(cap_seconds, self._settings.deadline_seconds)  # the door waits no longer either
        deadline = self._deadline.earlier(began + cap_seconds)
        try:
            finding = await bounded(look(deadline), deadline, clock=self._clock, reaper=self._reaper)
        except ConfigError as error:
            finding = diagnosis.bad_settings(error)
        except BackendError as error:
            finding = diagnosis.failure(step, error, self._asked(step, max(deadline.at - began, 0.0)))
        self._findings[finding.step] = replace(finding, seconds=self._clock.monotonic() - began)
        return finding.status is not Status.FAIL

    def _asked(self, step: Step, seconds: float) -> Asked:
        auth = self._settings.auth
        what = {
            Step.CREDENTIAL: auth.validate_path,
            Step.CONTRACT: auth.validate_path,
            Step.HEALTH: auth.health_path,
            Step.KEYSET: shown(auth.keyset_url),
            Step.REVOCATIONS: auth.revocations_path,
            Step.CLIENTS: self._door,
        }
        return Asked(self._host, self._peer, what.get(step, ""), seconds, self._section)

    @property
    def _peer(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def _door(self) -> str:
        """Where a door with these settings listens, as it is reached from its own host."""
        serve = self._settings.serve
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serve.host, serve.host)  # noqa: S104 - compared with, not bound to
        return f"[{host}]:{serve.port}" if ":" in host else f"{host}:{serve.port}"

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def _prepare(self, _deadline: Deadline) -> Finding:
        """What start-up would refuse too is refused here."""
        settings, auth = self._settings, self._settings.auth
        route_rules(settings)
        dns = AresDnsClient(auth.dns_servers, key=f"{self._section}.dns_servers")
        self._stack.push_async_callback(dns.aclose)
        self._resolver = Resolver(dns, self._clock, tls=self._tls)
        self._stack.push_async_callback(self._resolver.aclose)
        self._context = await tls_context(auth.ca_file, key=f"{self._section}.ca_file")
        self._transport = _DatedTransport(self._resolver, limit=CONNECTIONS, tls=self._context)
        self._transport.dated = self._dated
        self._stack.push_async_callback(self._transport.aclose)
        self._local = HttpTransport(self._resolver, limit=1)
        self._stack.push_async_callback(self._local.aclose)
        self._credential = service_credential(auth)
        sentence = f"{auth.base_url}, environment {settings.environment.value}, verify = {settings.verify.value}"
        return Finding(Step.SETTINGS, Status.OK, sentence, facts={"agent": in_words(settings.chat)})

    async def _resolve(self, deadline: Deadline) -> Finding:
        self._addresses = await self._resolver.resolve(self._host, deadline=deadline)
        hosts = [address.host for address in self._addresses]
        fixed = self._host in hosts or self._host == "localhost"
        sentence = f"{self._host} needs no name server" if fixed else f"{self._host} is {', '.join(hosts[:4])}"
        return Finding(Step.DNS, Status.OK, sentence, facts={"addresses": hosts})

    async def _connect(self, deadline: Deadline) -> Finding:
        """To every address at once. One that refuses costs nothing while another answers; one that is silent does."""
        attempts = {
            asyncio.create_task(_reach(address, self._port)): address for address in self._addresses[:MAX_ADDRESSES]
        }
        try:
            await asyncio.wait(attempts, timeout=deadline.remaining(self._clock.monotonic()) * 0.9)
            reached = [address for attempt, address in attempts.items() if attempt.done() and attempt.result() is None]
            silent = [address.host for attempt, address in attempts.items() if not attempt.done()]
            refusals = [error for attempt in attempts if attempt.done() and (error := attempt.result()) is not None]
        finally:
            for attempt in attempts:
                attempt.cancel()
        if not reached:
            if silent:
                raise ConnectTimeout("no answer")
            raise ConnectError(refusals[0].strerror or type(refusals[0]).__name__) from refusals[0]
        self._addresses = reached
        facts = {"reached": [address.host for address in reached], "silent": silent}
        if silent:
            sentence = f"{reached[0].host} accepts connections, {', '.join(silent)} does not answer"
            mend = "a new connection may lose 250 ms there, so take the dead address out of DNS or mend the route"
            return Finding(Step.TCP, Status.WARN, sentence, mend, facts=facts)
        return Finding(Step.TCP, Status.OK, f"{reached[0].host} accepts connections on port {self._port}", facts=facts)

    async def _shake_hands(self, _deadline: Deadline) -> Finding:
        if not self._tls:
            return skipped(Step.TLS, f"{self._section}.url is http: the token and our credential travel in clear")
        try:
            left = await _certificate_seconds(self._addresses[0], self._port, self._context, self._host)
        except ssl.SSLError as error:
            raise TlsError(getattr(error, "verify_message", None) or error.reason or type(error).__name__) from error
        except OSError as error:
            raise TlsError("the peer broke the connection off") from error
        return diagnosis.certificate(self._peer, left)

    async def _introduce(self, deadline: Deadline) -> Finding:
        """Whatever is said about a random token, it is said to somebody who is known."""
        auth = self._settings.auth
        if not auth.send_credential:
            return skipped(Step.CREDENTIAL, f"{self._section}.send_credential is false: the service wants no secret")
        if auth.lacks_secret:
            return skipped(Step.CREDENTIAL, self._no_secret)
        await self._random_token_judged(deadline)
        return Finding(Step.CREDENTIAL, Status.OK, f"It knows us as {auth.service_id}")

    async def _ask(self, deadline: Deadline) -> Finding:
        """A random token: the answer proves the path and the contract, and is about nobody."""
        settings, auth = self._settings, self._settings.auth
        if auth.lacks_secret:
            return skipped(Step.CONTRACT, self._no_secret)
        began = self._clock.monotonic()
        answer = await self._random_token_judged(deadline)
        took = self._clock.monotonic() - began
        if isinstance(answer, Valid):
            mend = f"let nobody in with it: check what listens at {self._section}.url and {self._section}.validate_path"
            return Finding(Step.CONTRACT, Status.FAIL, "The auth service calls a random token valid", mend)
        if took > settings.breaker.slow_seconds:
            sentence = f"The auth service takes {took:.1f} s to answer {auth.validate_path}"
            mend = (
                f"calls over {settings.breaker.slow_seconds:g} s count as slow and open the breaker; look at its load"
            )
            return Finding(Step.CONTRACT, Status.WARN, sentence, mend)
        return Finding(Step.CONTRACT, Status.OK, f"{auth.validate_path} refuses a random token as it must")

    async def _random_token_judged(self, deadline: Deadline) -> Valid | Invalid:
        validator = make_validator(self._settings.auth, self._transport, phase_caps(self._settings))
        return await validator.validate(f"canary-{secrets.token_urlsafe(32)}", deadline=deadline)

    @property
    def _no_secret(self) -> str:
        is_local = self._settings.verify is Verify.LOCAL
        why = ", and verify = local needs it for opaque tokens only" if is_local else ""
        return f"{self._section}.service_secret is not set{why}"

    async def _probe(self, deadline: Deadline) -> Finding:
        auth = self._settings.auth
        probe = HttpHealthProbe(self._transport, url=auth.base_url + auth.health_path, caps=phase_caps(self._settings))
        try:
            await probe.probe(deadline=deadline)
        except BadStatus as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return diagnosis.no_health_page(auth.health_path, self._section)
            raise
        return Finding(Step.HEALTH, Status.OK, f"{auth.health_path} says that it is well")

    async def _fetch_keys(self, deadline: Deadline) -> Finding:
        auth = self._settings.auth
        source = HttpKeySetSource(self._transport, url=auth.keyset_url, caps=phase_caps(self._settings))
        try:
            document, kept_seconds = await asyncio.gather(source.fetch(deadline=deadline), self._kept_keys_age())
        except BadAnswer as error:
            if error.status == HTTPStatus.NOT_FOUND and self._settings.verify is Verify.REMOTE:
                return diagnosis.no_keys(shown(auth.keyset_url), self._section)
            raise
        try:
            keyset = parse_keyset(document, self._clock.wall())
        except BadKeySet as error:
            raise BadAnswer(str(error)) from error
        facts = {"keys": len(keyset.keys), "kids": [key.kid for key in keyset.keys], "kept_copy_seconds": kept_seconds}
        if not any(keyset.candidates(None, algorithm) for algorithm in auth.algorithms if algorithm in KEY_TYPES):
            sentence = f"No key at {shown(auth.keyset_url)} can sign with {', '.join(auth.algorithms)}"
            return Finding(
                Step.KEYSET,
                Status.FAIL,
                sentence,
                f"check {self._section}.algorithms and {self._section}.jwks_url",
                facts=facts,
            )
        return Finding(Step.KEYSET, Status.OK, f"{_keys_in_words(keyset)}; {_age_in_words(kept_seconds)}", facts=facts)

    async def _kept_keys_age(self) -> float | None:
        """Of the copy on disk, which a restart in an outage lives on."""
        auth = self._settings.auth
        files = DirectoryStateFiles(self._settings.data_dir, issuer=auth.expected_issuer, keyset_url=auth.keyset_url)
        try:
            kept = await files.load_keyset()
        finally:
            await files.aclose()
        return None if kept is None else round(max(self._clock.wall() - kept.fetched_at, 0.0), 1)

    async def _poll(self, deadline: Deadline) -> Finding:
        auth = self._settings.auth
        if auth.revocations == "off":
            return skipped(Step.REVOCATIONS, f"{self._section}.revocations is off")
        if auth.service_secret is None:
            return Finding(
                Step.REVOCATIONS,
                Status.WARN,
                "The revocation feed needs our service credential",
                needs_secret(self._section),
            )
        source = HttpRevocationSource(
            self._transport,
            url=auth.base_url + auth.revocations_path,
            credential=self._credential,
            caps=phase_caps(self._settings),
        )
        try:
            page = await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=deadline)
        except FeedMissing:
            return _no_feed(self._section, required=auth.revocations == "on")
        facts = {"as_of": page.as_of, "items": len(page.items), "more": page.more}
        sentence = f"The feed is there: {len(page.items)}{' or more' if page.more else ''} revocations in force"
        return Finding(Step.REVOCATIONS, Status.OK, sentence, facts=facts)

    async def _ask_the_door(self, deadline: Deadline) -> Finding:
        """A door that runs here knows whether it can tell its clients apart; the settings alone do not."""
        if not self._asks_door:
            return skipped(Step.CLIENTS, "The door is looked at once, with its first issuer")
        if self._settings.serve.port == 0:
            return skipped(Step.CLIENTS, "serve.port is 0, so a door that runs is not to be found")
        token = self._settings.serve.metrics_token
        answer = await self._local.request(
            "GET",
            f"http://{self._door}/metrics",
            headers={} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"},
            deadline=deadline.earlier(self._clock.monotonic() + DOOR_SECONDS),
            caps=phase_caps(self._settings),
            max_body_bytes=MAX_METRICS_BYTES,
        )
        forwarded = re.search(rb"^doorward_untrusted_forwards_total (\S+)$", answer.body, re.MULTILINE)
        if answer.status != HTTPStatus.OK or forwarded is None:
            why = f"{self._door}/metrics (answered {answer.status}) is not that of a door of this version"
            return skipped(Step.CLIENTS, why)
        return diagnosis.clients(self._door, float(forwarded[1]))


class _DatedTransport(HttpTransport):
    """Notes in `dated` how far the peer's clock runs ahead, by each answer's `Date`."""

    dated: list[Dated]

    async def request(self, method: str, url: str, **options: Any) -> HttpAnswer:
        began, started = time.time(), time.monotonic()
        answer = await super().request(method, url, **options)
        skew = skew_of(answer.headers.get("Date", ""), began, time.time())
        if skew is not None and "Age" not in answer.headers:  # a cache repeats the date of the origin
            self.dated.append(Dated(skew, time.monotonic() - started))
        return answer


def skew_of(date: str, began: float, ended: float) -> float | None:
    """Seconds that the peer's clock runs ahead at least; 0 if it may be right. `Date` has whole seconds.

    Args:
        began, ended: wall time before and after the exchange.
    """
    try:
        seconds = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if seconds > ended:
        return seconds - ended
    return min(seconds + 1.0 - began, 0.0)


async def _reach(address: Address, port: int) -> OSError | None:
    """Why there is no connection, or `None`."""
    try:
        _, writer = await asyncio.open_connection(address.host, port)
    except OSError as error:
        return error
    await _closed(writer)
    return None


async def _certificate_seconds(address: Address, port: int, context: ssl.SSLContext, host: str) -> float | None:
    """How long the peer's certificate is good, after a whole handshake."""
    _, writer = await asyncio.open_connection(address.host, port, ssl=context, server_hostname=host)
    expiry = (writer.get_extra_info("peercert") or {}).get("notAfter")
    writer.transport.abort()
    await _closed(writer)
    return None if expiry is None else ssl.cert_time_to_seconds(expiry) - time.time()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _keys_in_words(keyset: KeySet) -> str:
    kids = ", ".join(shown(key.kid) for key in keyset.keys[:MAX_SHOWN_KIDS] if key.kid is not None)
    count = f"{len(keyset.keys)} key{'s' if len(keyset.keys) != 1 else ''}"
    return f"{count} ({kids}{', ...' if len(keyset.keys) > MAX_SHOWN_KIDS else ''})" if kids else count


def _age_in_words(seconds: float | None) -> str:
    if seconds is None:
        return "no copy on disk here yet"
    return (
        f"the copy on disk is {seconds:.0f} s old"
        if seconds < 120
        else f"the copy on disk is {seconds / 60:.0f} min old"
    )


def _no_feed(section: str, *, required: bool) -> Finding:
    if required:
        sentence = f"There is no revocation feed, and {section}.revocations = on asks for one"
        return Finding(
            Step.REVOCATIONS,
            Status.FAIL,
            sentence,
            f"check {section}.revocations_path, or set {section}.revocations to auto",
        )
    sentence = "There is no revocation feed, so open sockets learn of a sign-out late"
    mend = "offer one if you can; without it degraded mode is cached_only unless degrade.mode says otherwise"
    return Finding(Step.REVOCATIONS, Status.WARN, sentence, mend)
