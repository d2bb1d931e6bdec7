"""Hostile clients and a hostile auth service, on a real server: each is refused in bounded time and memory, with the right code.

All the while nothing that was said may hold a token or our own secret: no log line, metric, decision or refusal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joserfc.jws import JWSRegistry
from prometheus_client import generate_latest
from structlog.testing import capture_logs
from tests.door_server import BEARER, RunningDoor, running_door

from doorward.asgi.door import log_decision
from doorward.testing import Endpoint, FakeAuthService, Fault, opaque_token

SOON_SECONDS = 0.5
"""For what needs no question to the auth service. The rule is milliseconds; this is a slow machine with others on it."""

DEADLINE_SECONDS = 1.0
MANY = 10**6
SETTINGS: dict[str, Any] = {
    "deadline_seconds": DEADLINE_SECONDS,
    "patience_seconds": 0.2,
    "degrade": {"mode": "local_jwt"},
    "breaker": {"failures": MANY, "min_calls": MANY},
    "limits": {"address_rate_per_second": MANY, "address_burst": MANY},
}


@dataclass
class Witness:
    """Everything that was said in a test, and what must not be in it."""

    secrets: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def hide(self, token: str) -> str:
        """The whole token, and each part of a JWT that is not the same in all of them."""
        self.secrets.add(token)
        self.secrets.update(part for part in token.split(".")[1:] if len(part) > 20)
        return token

    def check(self) -> None:
        everything = "\n".join(self.said)
        assert self.secrets
        assert everything
        assert not [secret[:12] for secret in self.secrets if secret in everything]


@pytest.fixture
def witness(caplog: pytest.LogCaptureFixture) -> Iterator[Witness]:
    caplog.set_level(logging.DEBUG)
    watching = Witness()
    with capture_logs() as logs:
        yield watching
    watching.said += [str(entry) for entry in logs]
    watching.said += [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    watching.check()


@pytest.fixture
async def running(tmp_path: Path, witness: Witness) -> AsyncIterator[RunningDoor]:
    async with started(tmp_path, witness) as door:
        yield door


@asynccontextmanager
async def started(tmp_path: Path, witness: Witness, **settings: Any) -> AsyncIterator[RunningDoor]:
    async with running_door(tmp_path, **{**SETTINGS, **settings}) as running:
        await running.settled()
        witness.hide(running.auth.service_secret)
        try:
            yield running
        finally:
            for record in running.records:
                log_decision(record)
            witness.said += [repr(record) for record in running.records]
            witness.said.append(generate_latest(running.door.metrics.registry).decode())


@dataclass(frozen=True)
class Reply:
    status: int
    head: str
    body: str
    seconds: float

    @property
    def problem(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def code(self) -> str | None:
        return None if self.status == 101 else self.problem["code"]


async def knock(running: RunningDoor, *headers: bytes, raw: bytes | None = None, witness: Witness) -> Reply:
    """One opening handshake, byte for byte as given."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        try:
            writer.write(raw if raw is not None else request(running.port, *headers))
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            body = b"" if status == 101 else await reader.read(64 * 1024)
        finally:
            writer.close()
    reply = Reply(status, head.decode("latin-1"), body.decode("latin-1"), time.monotonic() - began)
    witness.said += [reply.head, reply.body]
    return reply


def request(port: int, *headers: bytes) -> bytes:
    lines = [
        b"GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{port}".encode(),
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    return b"\r\n".join([*lines, *headers, b"", b""])


def bearer(token: str) -> bytes:
    return f"Authorization: Bearer {token}".encode()


def offered(token: str | bytes, real: str = "doorward.v1") -> bytes:
    raw = token if isinstance(token, bytes) else token.encode()
    carrier = BEARER.encode() + base64.urlsafe_b64encode(raw).rstrip(b"=")
    return b"Sec-WebSocket-Protocol: " + b", ".join([real.encode(), carrier] if real else [carrier])


def signed(auth: FakeAuthService, header: Mapping[str, Any]) -> str:
    """Well signed by the service's own key, with a header that no library would sign."""
    mint = auth.mint
    parts = ({"alg": "ES256", "kid": mint.kid, "typ": "at+jwt", **header}, mint.claims())
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    message = b".".join(encoded)
    signature = JWSRegistry.algorithms["ES256"].sign(message, mint._keys[mint.kid])
    return b".".join([message, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- clients


async def test_a_header_of_a_megabyte(running: RunningDoor, witness: Witness) -> None:
    token = witness.hide("a" * 2**20)
    before = resident_bytes()
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request(running.port, bearer(token)))
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 431 ")
    assert time.monotonic() - began < SOON_SECONDS
    assert resident_bytes() - before < 16 * 2**20


@pytest.mark.parametrize("second", ["header", "subprotocol", "carrier"])
async def test_two_credentials(running: RunningDoor, witness: Witness, second: str) -> None:
    one, two = witness.hide(running.auth.issue("ada")), witness.hide(running.auth.issue("bob"))
    headers = {
        "header": (bearer(one), bearer(two)),
        "subprotocol": (bearer(one), offered(two)),
        "carrier": (offered(one), offered(two)),
    }
    reply = await knock(running, *headers[second], witness=witness)
    assert (reply.status, reply.code) == (400, "BAD_CREDENTIAL_FORMAT")
    assert reply.seconds < SOON_SECONDS
    assert running.auth.asked_about[one] == running.auth.asked_about[two] == 0


FORGERIES: dict[str, Callable[[FakeAuthService], str]] = {
    "alg none": lambda auth: auth.mint.alg_none(),
    "alg none with a signature": lambda auth: auth.mint.alg_none() + "c2lnbmF0dXJl",
    "public key as a secret": lambda auth: auth.mint.hs256_confusion(),
    "jku": lambda auth: auth.mint.with_jku(),
    "jku on a stranger's key": lambda auth: auth.mint.with_jku(url="http://127.0.0.1:1/jwks.json"),
    "embedded key": lambda auth: auth.issue(header={"jwk": {"kty": "EC", "crv": "P-256"}}),
    "x5u": lambda auth: auth.issue(header={"x5u": "http://127.0.0.1:1/cert"}),
    "unknown crit": lambda auth: signed(auth, {"crit": ["exp"]}),
    "compressed": lambda auth: signed(auth, {"zip": "DEF"}),
    "a stranger's key": lambda auth: auth.mint.forged(),
    "a key nobody published": lambda auth: auth.mint.unknown_kid(),
    "kid that is a path": lambda auth: auth.mint.unknown_kid(kid="../../../../dev/null"),
    "kid that is SQL": lambda auth: auth.mint.unknown_kid(kid="' OR 1=1 --"),
    "other claims": lambda auth: auth.mint.tampered(auth.issue(), sub="admin"),
    "another issuer": lambda auth: auth.issue(iss="https://evil.test"),
    "another audience": lambda auth: auth.issue(aud="another"),
    "no user": lambda auth: auth.issue(sub=None),
    "user that is a list": lambda auth: auth.issue(sub=["ada"]),
    "no expiry": lambda auth: auth.issue(exp=None),
    "endless expiry": lambda auth: auth.issue(exp="never"),
    "from the future": lambda auth: auth.issue(iat=int(time.time()) + 3_600),
    "not yet": lambda auth: auth.issue(nbf=int(time.time()) + 3_600),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused_at_once_and_nobody_is_asked(
    running: RunningDoor, witness: Witness, name: str
) -> None:
    token = witness.hide(FORGERIES[name](running.auth))
    reply = await knock(running, bearer(token), witness=witness)
    assert (reply.status, reply.code) == (401, "TOKEN_INVALID")
    assert reply.seconds < SOON_SECONDS
    assert running.auth.asked_about[token] == 0


@pytest.mark.parametrize("seed", range(4))
async def test_binary_junk_wherever_a_credential_may_stand(running: RunningDoor, witness: Witness, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(40):
        junk = bytes(dice.choice(range(0x21, 0x100)) for _ in range(dice.choice((1, 7, 64, 1_000, 4_200))))
        witness.hide(junk.decode("latin-1").strip() + "~" * 12)
        places: Sequence[Sequence[bytes]] = (
            [b"Authorization: Bearer " + junk],
            [b"Authorization: " + junk],
            [offered(junk)],
            [b"Sec-WebSocket-Protocol: doorward.v1, " + BEARER.encode() + junk.replace(b",", b".")],
            [b"Sec-WebSocket-Protocol: " + junk],
            [b"Cookie: __Host-doorward=" + junk],
            [offered(junk, real="")],
        )
        reply = await knock(running, *dice.choice(places), witness=witness)
        assert reply.status in {400, 401}, reply
        assert reply.seconds < SOON_SECONDS
    assert (await running.ask(witness.hide(running.auth.issue()))).status == 101


@pytest.mark.parametrize(
    "token", ["a" * 4_097, "a.b.c", "..", ".", "e30.e30.e30", "eyJhbGciOiJFUzI1NiJ9..", "-", "a" * 4_096], ids=len
)
async def test_a_token_that_is_none(running: RunningDoor, witness: Witness, token: str) -> None:
    witness.secrets.add("not empty, and never said")
    reply = await knock(running, bearer(token), witness=witness)
    assert reply.code in {"BAD_CREDENTIAL_FORMAT", "TOKEN_INVALID", "TOKEN_REJECTED"}
    assert reply.seconds < SOON_SECONDS


async def test_claims_nested_without_end(running: RunningDoor, witness: Witness) -> None:
    """A header within its 8 KiB, and as deep as that allows."""
    depth = 2_900
    header = base64.urlsafe_b64encode(b'{"alg":' + b"[" * depth + b"]" * 20).rstrip(b"=").decode()
    token = witness.hide(f"{header[:3_900]}.e30.c2ln")
    reply = await knock(running, bearer(token), witness=witness)
    assert reply.code in {"TOKEN_INVALID", "TOKEN_REJECTED"}
    assert reply.seconds < SOON_SECONDS


# --- a flood of key ids


def age_the_keys(running: RunningDoor) -> None:
    """As if the set had been fetched a minute ago: no longer definitive."""
    keyset = running.issuer.keys.keyset
    assert keyset is not None
    keyset.fetched_at -= 60


async def flood(running: RunningDoor, witness: Witness, count: int) -> list[Reply]:
    strangers = [witness.hide(running.auth.mint.unknown_kid(kid=f"made-up-{number}")) for number in range(count)]
    return await asyncio.gather(*(knock(running, bearer(token), witness=witness) for token in strangers))


async def test_a_flood_of_key_ids_during_a_rotation_is_one_look(running: RunningDoor, witness: Witness) -> None:
    age_the_keys(running)
    running.auth.rotate_key()
    fetched = running.auth.calls[Endpoint.JWKS]
    running.auth.latency_seconds = 0.05
    token = witness.hide(running.auth.issue())
    replies, honest = await asyncio.gather(flood(running, witness, 60), knock(running, bearer(token), witness=witness))
    assert honest.status == 101
    assert {reply.code for reply in replies} == {"TOKEN_INVALID"}
    assert running.auth.calls[Endpoint.JWKS] == fetched + 1
    assert max(record.total_ms for record in running.records) / 1000 <= DEADLINE_SECONDS
    assert {reply.code for reply in await flood(running, witness, 20)} == {"TOKEN_INVALID"}
    assert running.auth.calls[Endpoint.JWKS] == fetched + 1


@pytest.mark.parametrize("fault", ["fails", "hangs", "is empty"])
async def test_an_unknown_key_is_not_invalid_while_the_keys_cannot_be_had(
    running: RunningDoor, witness: Witness, fault: str
) -> None:
    age_the_keys(running)
    running.auth.rotate_key()
    fetched = running.auth.calls[Endpoint.JWKS]
    if fault == "hangs":
        running.auth.latency_seconds = 30.0
    else:
        status, body = (500, b"") if fault == "fails" else (200, b'{"keys": []}')
        running.auth.answer_with(status, body, endpoint=Endpoint.JWKS)
    token = witness.hide(running.auth.issue())
    replies, honest = await asyncio.gather(flood(running, witness, 50), knock(running, bearer(token), witness=witness))
    for reply in [*replies, honest]:
        assert (reply.status, reply.code, reply.problem["cause"]) == (503, "SERVICE_UNAVAILABLE", "keyset")
        assert reply.problem["retry_after_ms"] >= 1_000
    assert max(record.total_ms for record in running.records) / 1000 <= DEADLINE_SECONDS
    assert running.auth.calls[Endpoint.JWKS] <= fetched + 1


# --- an auth service that breaks the contract

ANSWERS: dict[str, tuple[int, bytes | Mapping[str, Any]]] = {
    "valid as a string": (200, {"valid": "true", "user_id": "ada"}),
    "valid as a number": (200, {"valid": 1, "user_id": "ada"}),
    "valid is null": (200, {"valid": None, "user_id": "ada"}),
    "no valid": (200, {"user_id": "ada"}),
    "no user": (200, {"valid": True}),
    "empty user": (200, {"valid": True, "user_id": ""}),
    "user as a number": (200, {"valid": True, "user_id": 7}),
    "user as a list": (200, {"valid": True, "user_id": ["ada"]}),
    "permissions as a word": (200, {"valid": True, "user_id": "ada", "permissions": "admin"}),
    "permissions of numbers": (200, {"valid": True, "user_id": "ada", "permissions": [1]}),
    "expiry as a word": (200, {"valid": True, "user_id": "ada", "expires_at": "never"}),
    "endless expiry": (200, b'{"valid": true, "user_id": "ada", "expires_at": 1e999}'),
    "expiry that is no number": (200, b'{"valid": true, "user_id": "ada", "expires_at": NaN}'),
    "a list": (200, b'[{"valid": true, "user_id": "ada"}]'),
    "null": (200, b"null"),
    "nothing": (200, b""),
    "half": (200, b'{"valid": true, "user_id": "ad'),
    "twice": (200, b'{"valid": true, "user_id": "ada"}{"valid": true}'),
    "binary": (200, b"\xff\xfe\x00{"),
    "HTML": (200, b"<html>it works</html>"),
    "no content": (204, b""),
    "not modified": (304, b""),
    "bad request": (400, {"valid": True, "user_id": "ada"}),
    "not found": (404, {"valid": False}),
    "valid in a 500": (500, {"valid": True, "user_id": "ada"}),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_not_the_contract_is_neither_yes_nor_no(
    running: RunningDoor, witness: Witness, name: str
) -> None:
    status, body = ANSWERS[name]
    running.auth.answer_with(status, body)
    stranger = witness.hide(running.auth.issue_opaque())
    for _ in range(2):
        reply = await knock(running, bearer(stranger), witness=witness)
        cause = "upstream" if status == 500 else "protocol"
        assert (reply.status, reply.code, reply.problem["cause"]) == (503, "SERVICE_UNAVAILABLE", cause)
        assert reply.seconds < SOON_SECONDS
    assert running.auth.asked_about[stranger] == 2, "an error is never cached"
    proven = witness.hide(running.auth.issue("ada"))
    assert (await knock(running, bearer(proven), witness=witness)).status == 101
    assert running.records[-1].reason == "degraded_local"
    running.auth.answer_normally()
    assert (await knock(running, bearer(stranger), witness=witness)).status == 101


@pytest.mark.parametrize("field_name", ["user_id", "session_id"])
async def test_an_answer_about_somebody_else(
    running: RunningDoor, witness: Witness, field_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = witness.hide(running.auth.issue("ada"))
    running.auth.alter_answer(token, **{field_name: "mallory"})
    with capture_logs() as logs:
        for _ in range(2):
            reply = await knock(running, bearer(token), witness=witness)
            assert (reply.status, reply.code, reply.problem["cause"]) == (503, "SERVICE_UNAVAILABLE", "protocol")
    assert running.auth.asked_about[token] == 2
    alarms = [(entry["log_level"], entry["cause"]) for entry in logs if "cause" in entry]
    assert alarms[0] == ("error", "protocol")
    running.auth.alter_answer(token, user_id="ada", session_id=None)
    assert (await knock(running, bearer(token), witness=witness)).status == 101
    assert running.records[-1].user_id == "ada"


HOSTILE: dict[str, Callable[[], Fault]] = {
    "nested": lambda: Fault.nested_json(20_000),
    "gzip bomb": lambda: Fault.gzip_bomb(64 << 20),
    "redirect": lambda: Fault.redirect("http://127.0.0.1:1/auth/validate"),
    "1xx flood": lambda: Fault.informational_flood(100_000),
    "a gigabyte": lambda: Fault.huge_body(1 << 30),
    "drip": lambda: Fault.DRIP,
    "headers without end": lambda: Fault.status(200, b"{}", {f"X-{number}": "a" * 4_000 for number in range(64)}),
    "a header of a megabyte": lambda: Fault.status(200, b"{}", {"X": "a" * (1 << 20)}),
    "half an answer": lambda: Fault.TRUNCATE,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_costs_neither_time_nor_memory(
    running: RunningDoor, witness: Witness, name: str
) -> None:
    running.proxy.fault = HOSTILE[name]()
    before = resident_bytes()
    strangers = [witness.hide(opaque_token()) for _ in range(8)]
    replies = await asyncio.gather(*(knock(running, bearer(token), witness=witness) for token in strangers))
    for reply in replies:
        assert (reply.status, reply.code) == (503, "SERVICE_UNAVAILABLE")
        assert reply.problem["cause"] in {"protocol", "deadline", "upstream"}
    slowest = max(record.total_ms for record in running.records) / 1000
    assert slowest <= DEADLINE_SECONDS + running.allowed_overrun_seconds
    assert resident_bytes() - before < 32 * 2**20
    proven = witness.hide(running.auth.issue("ada"))
    assert (await knock(running, bearer(proven), witness=witness)).status == 101
    assert running.records[-1].degraded or running.records[-1].provisional


async def test_json_nested_100_000_deep_within_the_limit_of_a_body(running: RunningDoor, witness: Witness) -> None:
    """Cut at 64 KiB it would be no JSON anyway, so both: longer than the limit, and as deep as fits."""
    for depth in (100_000, 32_000):
        running.proxy.fault = Fault.nested_json(depth)
        reply = await knock(running, bearer(witness.hide(opaque_token())), witness=witness)
        assert (reply.code, reply.problem["cause"]) == ("SERVICE_UNAVAILABLE", "protocol")
        assert reply.seconds < SOON_SECONDS
