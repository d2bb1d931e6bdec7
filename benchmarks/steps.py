"""`python -m benchmarks.steps`: where the microseconds of a handshake go, in one process and without a server.

Each part is called on its own, on a real open door, thousands of times; the lowest time of many runs is shown, because what
else the machine does only ever adds. `the whole` is a connection from the scope to its end: opened, one message, its echo, closed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks import report, subjects
from benchmarks.echo_server import behind_the_door, echo
from benchmarks.machine import CannotMeasure
from benchmarks.tokens import ISSUER, Purse
from doorward.adapters.logs import configure
from doorward.asgi.door import Door, log_decision, new_decision_id
from doorward.asgi.handshake import scrubbed_scope
from doorward.asgi.middleware import Doorward
from doorward.asgi.session import AdmittedConnection
from doorward.asgi.types import App, Message, Scope
from doorward.config import Settings
from doorward.core.claims import check
from doorward.core.credential import DEFAULT_COOKIE, extract
from doorward.core.deadline import Deadline
from doorward.core.keyset import Parsed, _signed_by, parse_token, verify
from doorward.core.verdict import Allow
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.telemetry import Trace
from doorward.runtime.token_reader import Subject
from doorward.testing.waiting import eventually

RUNS = 30
CALLS = 300
ENOUGH = 1_000_000.0
START_SECONDS = 5.0

Part = Callable[[], object]


class Parts:
    """The parts of one handshake with a token that the door knows, each as a call that can be repeated."""

    def __init__(self, app: Doorward, token: str) -> None:
        self.app = app
        self.door = app.door
        self.token = token
        self.scope = scope_of(token)
        self.handshake = self.door.reader.read(self.scope)

    async def learn(self) -> None:
        """The auth service is asked, once."""
        judgement = await self.door.authenticator.decide(self.handshake, self._deadline(), Trace(self.door.clock))
        if not isinstance(judgement.verdict, Allow):
            raise CannotMeasure(f"the door says {judgement.verdict}")
        self.judgement = await self.door.authenticator.decide(self.handshake, self._deadline(), Trace(self.door.clock))
        self.record = self._recorded()

    def in_order(self) -> Iterator[tuple[str, Part]]:
        authenticator, verifier = self.door.authenticator, self.door.issuers["auth"].verifier
        reader = verifier._reader
        subject = self.judgement.subject
        if subject is None:
            raise CannotMeasure("a verdict without a subject")
        yield "the scope read", lambda: self.door.reader.read(self.scope)
        yield "origin, rate, pending", lambda: authenticator._refusal(self.handshake)
        yield "the credential", lambda: extract(self.handshake.presented, self.handshake.route.transports)
        yield "known by its digest", lambda: reader.proven(reader.key_of(self.token), time.time())
        yield "revocations and cache", lambda: verifier._without_asking(subject, time.time())
        yield "registered, and gone again", lambda: self._registered(subject)
        yield "scope without credential", lambda: scrubbed_scope(self.scope, None, self.handshake, DEFAULT_COOKIE)
        yield "counted and kept", lambda: self._counted()
        yield "the log line", lambda: log_decision(self.record)

    def _registered(self, subject: Subject) -> None:
        connection = self.app._registered(
            self.judgement, self.handshake, new_decision_id(), self.scope, _nothing, _sent, AdmittedConnection
        )
        if not isinstance(connection, AdmittedConnection):
            raise CannotMeasure(f"{subject} was not registered")
        connection.left()

    def _counted(self) -> None:
        """The record and its books; the log line is a part of its own."""
        telemetry = self.door.telemetry
        emit, telemetry._emit = telemetry._emit, lambda _: None
        try:
            self._recorded()
        finally:
            telemetry._emit = emit

    def _recorded(self) -> DecisionRecord:
        trace = Trace(self.door.clock)
        for step in ("open", "admit", "extract", "local", "cache"):
            trace.mark(step)
        verdict, decision_id = self.judgement.verdict, new_decision_id()
        self.app._record(
            verdict, time.time(), self.judgement, self.handshake, self._deadline(), trace, decision_id, "websocket"
        )
        return self.door.telemetry.decisions(1)[0]

    def _deadline(self) -> Deadline:
        return Deadline.after(self.door.clock.monotonic(), self.app.settings.deadline_seconds)


def scope_of(token: str) -> Scope:
    """A handshake as uvicorn hands it over, from a client that is no browser."""
    lines = {
        "host": "127.0.0.1:8000",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
        "authorization": f"Bearer {token}",
    }
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.2", 50_000),
        "root_path": "",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


def local_parts(token: str, door: Door) -> Iterator[tuple[str, Part]]:
    """What a JWT costs that was never seen before."""
    issuer = door.issuers["auth"]
    policy, keyset = issuer.verifier.policy, issuer.keys.keyset
    parsed = parse_token(token, policy.algorithms, policy.typ)
    claims = verify(parsed, keyset) if isinstance(parsed, Parsed) and keyset is not None else None
    if not isinstance(parsed, Parsed) or not isinstance(claims, dict) or keyset is None:
        raise CannotMeasure("the token does not hold")
    key = next(key for key in keyset.candidates(parsed.kid, parsed.algorithm))
    yield "taken apart", lambda: parse_token(token, policy.algorithms, policy.typ)
    yield "signature and JSON", lambda: verify(parsed, keyset)
    yield "  of it, the signature in OpenSSL", lambda: _signed_by(key, parsed)
    yield "claims", lambda: check(claims, policy.claims, time.time())


async def _nothing() -> Message:
    return {"type": "websocket.disconnect", "code": 1000}


async def _sent(_: Message) -> None:
    return None


def lowest(part: Part) -> float:
    """Microseconds of CPU for one call."""
    best = float("inf")
    for _ in range(RUNS):
        began = time.thread_time()
        for _ in range(CALLS):
            part()
        best = min(best, (time.thread_time() - began) / CALLS * 1e6)
    return best


async def lowest_whole(app: App, token: str) -> float:
    """The same of a whole connection, each in a task of its own as a server does it."""
    best = float("inf")
    for _ in range(RUNS):
        scopes = [scope_of(token) for _ in range(CALLS)]
        began = time.thread_time()
        await asyncio.gather(*(_connection(app, scope) for scope in scopes))
        best = min(best, (time.thread_time() - began) / CALLS * 1e6)
    return best


def _connection(app: App, scope: Scope) -> Awaitable[None]:
    events: list[Message] = [
        {"type": "websocket.disconnect", "code": 1000},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.connect"},
    ]

    async def receive() -> Message:
        return events.pop()

    return app(scope, receive, _sent)


async def measured(folder: Path, auth: subjects.AuthService, purse: Purse) -> list[tuple[str, float]]:
    settings = Settings(
        auth={"url": auth.url, "issuer": ISSUER, "service_secret": "unused"},
        limits={"address_rate_per_second": ENOUGH, "address_burst": ENOUGH},
        data_dir=folder / "data",
    )
    app, token = behind_the_door(settings), purse.token()
    await app.door.open()
    try:
        await eventually(lambda: app.door.issuers["auth"].keys.keyset, within_seconds=START_SECONDS, what="the key set")
        parts = Parts(app, token)
        await parts.learn()
        rows = [(name, lowest(part)) for name, part in parts.in_order()]
        bare, door = await lowest_whole(echo, token), await lowest_whole(app, token)
        rest = door - bare - sum(micros for _, micros in rows)
        rows += [("the app's calls through the door, coroutines, timeline", rest), ("the whole", door - bare)]
        rows += [(f"a new ES256 token: {name}", lowest(part)) for name, part in local_parts(purse.token(), app.door)]
        return rows
    finally:
        await app.door.aclose()


def main() -> int:
    argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="doorward-steps-") as name, open(f"{name}/log", "w") as stream:
        folder = Path(name)
        writer = configure(level="info", style="json", stream=stream)
        purse = Purse(folder)
        try:
            with subjects.fast_auth(purse.key_set) as auth:
                rows = asyncio.run(measured(folder, auth, purse))
        except CannotMeasure as error:
            print(f"steps: {error}", file=sys.stderr)
            return 2
        finally:
            writer.aclose()
    lines = [["microseconds in", "lowest"], *([name, f"{micros:.1f}"] for name, micros in rows)]
    print(report.aligned(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
