"""Validate, key set, health and the revocation feed, against a real HTTP server that speaks the contract or breaks it."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
from collections.abc import Mapping
from typing import Any

import pytest

from doorward.adapters.health_http import HttpHealthProbe
from doorward.adapters.jwks_http import MAX_KEYSET_BYTES, HttpKeySetSource
from doorward.adapters.revocations_http import MAX_PAGE_ITEMS, HttpRevocationSource, parse_page
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.adapters.validate_http import HttpValidator, Manner
from doorward.core.answer import Invalid, Valid
from doorward.core.deadline import Deadline
from doorward.errors import BackendError, BadAnswer, BadStatus, ReadTimeout, ServiceCredentialRefused, Throttled
from doorward.runtime.ports import (
    CursorExpired,
    FeedMissing,
    HealthProbe,
    KeySetSource,
    RevocationItem,
    RevocationSource,
    Validator,
)
from doorward.testing import Endpoint, FakeAuthService

CAPS = Caps(connect_seconds=1.0, read_seconds=1.0, write_seconds=1.0, pool_seconds=1.0)
WALL = 1_700_000_000.0


def credential(auth: FakeAuthService, **headers: str) -> ServiceCredential:
    return ServiceCredential(auth.service_id, auth.service_secret, **headers)


@pytest.fixture
def validator(auth: FakeAuthService, transport: HttpTransport) -> Validator:
    return HttpValidator(
        transport,
        url=auth.url + Endpoint.VALIDATE,
        audiences=("doorward",),
        credential=credential(auth),
        caps=CAPS,
        traceparent=lambda: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        wall=lambda: WALL,
    )


def soon(seconds: float = 2.0) -> Deadline:
    return Deadline.after(asyncio.get_running_loop().time(), seconds)


class TestValidate:
    async def test_a_good_token(self, auth: FakeAuthService, validator: Validator) -> None:
        auth.cache_seconds = 30
        token = auth.issue("ada", permissions=["chat", "admin"], session_id="s1", email="ada@example.com")
        answer = await validator.validate(token, deadline=soon())
        assert isinstance(answer, Valid)
        assert (answer.user_id, answer.session_id, answer.email) == ("ada", "s1", "ada@example.com")
        assert answer.permissions == {"chat", "admin"}
        assert answer.cache_seconds == 30

    async def test_what_is_sent(self, auth: FakeAuthService, validator: Validator) -> None:
        await validator.validate(auth.issue(), deadline=soon(1.5))
        request = auth.requests[-1]
        assert set(json.loads(request.body)) == {"token", "audience"}
        assert json.loads(request.body)["audience"] == "doorward"
        assert 1_000 < int(request.headers["x-envoy-expected-rq-timeout-ms"]) <= 1_500
        assert request.headers["traceparent"].startswith("00-0af765")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"].startswith("Basic ")

    async def test_the_credential_in_two_headers(self, auth: FakeAuthService, transport: HttpTransport) -> None:
        named = credential(auth, id_header="X-Service-ID", secret_header="X-Service-Secret")
        url = auth.url + Endpoint.VALIDATE
        validator = HttpValidator(transport, url=url, audiences=("doorward",), credential=named, caps=CAPS)
        assert isinstance(await validator.validate(auth.issue(), deadline=soon()), Valid)
        assert "authorization" not in auth.requests[-1].headers
        assert "traceparent" not in auth.requests[-1].headers

    async def test_name_and_secret_go_as_they_are(self, auth: FakeAuthService, transport: HttpTransport) -> None:
        """RFC 7617; only an OAuth client encodes them first."""
        auth.service_id, auth.service_secret = "tür", "100%: of+it"
        url = auth.url + Endpoint.VALIDATE
        asking = HttpValidator(transport, url=url, audiences=("doorward",), credential=credential(auth), caps=CAPS)
        assert isinstance(await asking.validate(auth.issue(), deadline=soon()), Valid)
        encoded = auth.requests[-1].headers["authorization"].removeprefix("Basic ")
        assert base64.b64decode(encoded).decode() == "tür:100%: of+it"

    @pytest.mark.parametrize(
        ("header", "sent"), [("Authorization", "Bearer a.b-c"), ("authorization", "Bearer a.b-c"), ("X-Token", "a.b-c")]
    )
    async def test_the_token_in_a_header(
        self, header: str, sent: str, auth: FakeAuthService, transport: HttpTransport
    ) -> None:
        """What a service reads as `Authorization` is a scheme and then the token; a header of its own has no scheme."""
        auth.answer_with(200, {"valid": True, "user_id": "ada"})
        asking = HttpValidator(
            transport,
            url=auth.url + Endpoint.VALIDATE,
            audiences=("doorward",),
            credential=None,
            caps=CAPS,
            manner=Manner(token_header=header),
        )
        assert await asking.validate("a.b-c", deadline=soon()) == Valid("ada")
        request = auth.requests[-1]
        assert (request.headers[header.lower()], request.body) == (sent, b"")

    async def test_the_secret_is_not_shown(self, auth: FakeAuthService) -> None:
        assert auth.service_secret not in repr(credential(auth))

    async def test_a_bad_token_both_ways(self, auth: FakeAuthService, validator: Validator) -> None:
        assert await validator.validate("unknown", deadline=soon()) == Invalid("invalid_token")
        auth.invalid_as_401 = True
        assert await validator.validate("unknown", deadline=soon()) == Invalid("invalid_token")

    async def test_our_own_credential_refused(self, auth: FakeAuthService, validator: Validator) -> None:
        auth.refuse_service_credential = True
        with pytest.raises(ServiceCredentialRefused, match=r"auth\.service_secret"):
            await validator.validate(auth.issue(), deadline=soon())

    @pytest.mark.parametrize(
        ("status", "body", "headers"),
        [
            (401, {"error": "invalid_token"}, {"WWW-Authenticate": 'Basic realm="auth"'}),
            (401, {"error": "invalid_token"}, {"WWW-Authenticate": 'Bearer realm="x", basic realm="y"'}),
            (401, {"error": "invalid_token"}, {"WWW-Authenticate": "BASIC"}),
            (401, {"error": "invalid_client"}, {}),
            (401, ["invalid_token"], {}),
            (401, b"invalid_token", {}),
            (401, b"", {}),
            (401, b'{"error":"invalid_token"', {}),
            (401, b"[" * 60_000, {}),
            (403, {"error": "invalid_token"}, {}),
        ],
    )
    async def test_a_401_that_is_about_us(
        self, auth: FakeAuthService, validator: Validator, status: int, body: Any, headers: Mapping[str, str]
    ) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        auth.answer_with(status, raw, headers)
        with pytest.raises(ServiceCredentialRefused):
            await validator.validate("token", deadline=soon())

    @pytest.mark.parametrize("challenge", ["Bearer", 'Bearer error="invalid_token"', "Bearer realm=basics"])
    async def test_a_401_that_is_about_the_token(
        self, auth: FakeAuthService, validator: Validator, challenge: str
    ) -> None:
        auth.answer_with(401, {"error": "invalid_token"}, {"WWW-Authenticate": challenge})
        assert isinstance(await validator.validate("token", deadline=soon()), Invalid)

    @pytest.mark.parametrize(
        ("status", "retry_after", "seconds"),
        [
            (429, None, 1.0),
            (429, "7", 7.0),
            (429, "0", 0.0),
            (429, "900", 30.0),
            (429, "-3", 1.0),
            (429, "nan", 1.0),
            (429, "soon", 1.0),
            (503, "5", 5.0),
            (503, email.utils.formatdate(WALL + 12, usegmt=True), 12.0),
            (503, email.utils.formatdate(WALL - 12, usegmt=True), 0.0),
            (503, email.utils.formatdate(WALL + 4000, usegmt=True), 30.0),
        ],
    )
    async def test_asked_to_wait(
        self, auth: FakeAuthService, validator: Validator, status: int, retry_after: str | None, seconds: float
    ) -> None:
        auth.answer_with(status, b"", {} if retry_after is None else {"Retry-After": retry_after})
        with pytest.raises(Throttled) as caught:
            await validator.validate("token", deadline=soon())
        assert (caught.value.status, caught.value.retry_after_seconds) == (status, seconds)

    @pytest.mark.parametrize(
        ("status", "retry_after"), [(500, None), (502, "5"), (503, None), (503, "x"), (504, None), (599, None)]
    )
    async def test_other_5xx(
        self, auth: FakeAuthService, validator: Validator, status: int, retry_after: str | None
    ) -> None:
        auth.answer_with(status, b"", {"Retry-After": retry_after} if retry_after else {})
        with pytest.raises(BadStatus) as caught:
            await validator.validate("token", deadline=soon())
        assert caught.value.status == status

    @pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 404, 405, 408, 422])
    async def test_a_status_outside_the_contract_is_never_an_answer(
        self, auth: FakeAuthService, validator: Validator, status: int
    ) -> None:
        auth.answer_with(status, b"" if status == 204 else {"valid": True, "user_id": "mallory"}, {"Location": "/"})
        with pytest.raises(BadAnswer):
            await validator.validate("token", deadline=soon())

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"true",
            b'{"valid": "true", "user_id": "ada"}',
            b'{"valid": 1, "user_id": "ada"}',
            b'{"valid": true}',
            b'{"valid": true, "user_id": ""}',
            b'{"valid": true, "user_id": 7}',
            b'{"valid": true, "user_id": "ada", "permissions": "admin"}',
            b'{"valid": true, "user_id": "ada"',
            b'{"a":' * 10_000,
            b"[" * 60_000,
            b"\xff\xfe",
        ],
    )
    async def test_a_200_that_is_not_the_contract(
        self, auth: FakeAuthService, validator: Validator, body: bytes
    ) -> None:
        auth.answer_with(200, body)
        with pytest.raises(BadAnswer):
            await validator.validate("token", deadline=soon())

    async def test_an_answer_has_64_kib_at_most(self, auth: FakeAuthService, validator: Validator) -> None:
        answer = b'{"valid": true, "user_id": "ada"}'
        auth.answer_with(200, answer.ljust(65_536))
        assert await validator.validate("token", deadline=soon()) == Valid("ada")
        auth.answer_with(200, answer.ljust(65_537))
        with pytest.raises(BadAnswer):
            await validator.validate("token", deadline=soon())

    async def test_json_nested_100_000_deep(self, auth: FakeAuthService, validator: Validator) -> None:
        auth.answer_with(200, b"[" * 100_000 + b"]" * 100_000)
        with pytest.raises(BadAnswer):
            await validator.validate("token", deadline=soon())

    async def test_too_slow(self, auth: FakeAuthService, validator: Validator) -> None:
        auth.latency_seconds = 5
        with pytest.raises(ReadTimeout):
            await validator.validate("token", deadline=soon(0.2))


class TestKeySet:
    @pytest.fixture
    def source(self, auth: FakeAuthService, transport: HttpTransport) -> KeySetSource:
        return HttpKeySetSource(transport, url=auth.url + Endpoint.JWKS, caps=CAPS)

    async def test_the_document_comes_raw_and_no_credential_is_sent(
        self, auth: FakeAuthService, source: KeySetSource
    ) -> None:
        assert json.loads(await source.fetch(deadline=soon()))["keys"]
        assert "authorization" not in auth.requests[-1].headers

    async def test_it_may_be_longer_than_an_answer_and_is_bounded(
        self, auth: FakeAuthService, source: KeySetSource
    ) -> None:
        auth.answer_with(200, b"x" * MAX_KEYSET_BYTES, endpoint=Endpoint.JWKS)
        assert len(await source.fetch(deadline=soon())) == MAX_KEYSET_BYTES
        auth.answer_with(200, b"x" * (MAX_KEYSET_BYTES + 1), endpoint=Endpoint.JWKS)
        with pytest.raises(BadAnswer):
            await source.fetch(deadline=soon())

    @pytest.mark.parametrize(
        ("status", "kind"), [(500, BadStatus), (404, BadAnswer), (401, BadAnswer), (429, Throttled)]
    )
    async def test_anything_but_a_200(
        self, auth: FakeAuthService, source: KeySetSource, status: int, kind: type[BackendError]
    ) -> None:
        auth.answer_with(status, b"", endpoint=Endpoint.JWKS)
        with pytest.raises(BackendError) as caught:
            await source.fetch(deadline=soon())
        assert type(caught.value) is kind


async def test_health(auth: FakeAuthService, transport: HttpTransport) -> None:
    probe: HealthProbe = HttpHealthProbe(transport, url=auth.url + Endpoint.HEALTH, caps=CAPS)
    await probe.probe(deadline=soon())
    auth.healthy = False
    with pytest.raises(BadStatus):
        await probe.probe(deadline=soon())


class TestRevocations:
    @pytest.fixture
    def source(self, auth: FakeAuthService, transport: HttpTransport) -> RevocationSource:
        url = auth.url + Endpoint.REVOCATIONS
        return HttpRevocationSource(transport, url=url, credential=credential(auth), caps=CAPS)

    async def test_snapshot_then_the_next_page(self, auth: FakeAuthService, source: RevocationSource) -> None:
        auth.page_size = 2
        auth.revoke(jti="j1")
        auth.revoke(session_id="s1")
        auth.revoke(user_id="u1", not_before_ms=1_700_000_000_000)
        first = await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=soon())
        assert first.items == (RevocationItem(jti="j1"), RevocationItem(session_id="s1"))
        assert first.more
        second = await source.poll(epoch=first.epoch, cursor=first.cursor, wait_seconds=0, deadline=soon())
        assert second.items == (RevocationItem(user_id="u1", not_before_ms=1_700_000_000_000),)
        assert not second.more

    async def test_a_poll_is_held_longer_than_the_read_cap(
        self, auth: FakeAuthService, source: RevocationSource
    ) -> None:
        page = await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=soon())
        asked = auth.calls[Endpoint.REVOCATIONS]
        poll = asyncio.create_task(
            source.poll(epoch=page.epoch, cursor=page.cursor, wait_seconds=20, deadline=soon(25))
        )
        done, _ = await asyncio.wait({poll}, timeout=CAPS.read_seconds + 0.3)
        assert not done
        assert auth.calls[Endpoint.REVOCATIONS] == asked + 1
        auth.revoke(jti="j9")
        assert (await asyncio.wait_for(poll, 2)).items == (RevocationItem(jti="j9"),)

    async def test_the_wait_is_never_longer_than_the_contract_allows(
        self, auth: FakeAuthService, source: RevocationSource
    ) -> None:
        await source.poll(epoch=None, cursor=None, wait_seconds=600, deadline=soon())
        assert auth.requests[-1].query == {"wait": "20"}

    @pytest.mark.parametrize("status", [404, 405, 501])
    async def test_no_feed(self, auth: FakeAuthService, source: RevocationSource, status: int) -> None:
        auth.answer_with(status, b"", endpoint=Endpoint.REVOCATIONS)
        with pytest.raises(FeedMissing):
            await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=soon())

    async def test_an_expired_cursor(self, auth: FakeAuthService, source: RevocationSource) -> None:
        page = await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=soon())
        auth.expire_cursors()
        with pytest.raises(CursorExpired):
            await source.poll(epoch=page.epoch, cursor=page.cursor, wait_seconds=0, deadline=soon())

    async def test_our_own_credential_refused(self, auth: FakeAuthService, source: RevocationSource) -> None:
        auth.refuse_service_credential = True
        with pytest.raises(ServiceCredentialRefused):
            await source.poll(epoch=None, cursor=None, wait_seconds=0, deadline=soon())

    @pytest.mark.parametrize(
        "change",
        [
            {"epoch": None},
            {"epoch": ""},
            {"cursor": 7},
            {"cursor": "c" * 2_000},
            {"as_of": "now"},
            {"as_of": -1},
            {"more": "false"},
            {"more": 0},
            {"items": {}},
            {"items": [{}]},
            {"items": [{"jti": "a", "session_id": "b"}]},
            {"items": [{"user_id": "a"}]},
            {"items": [{"jti": "a", "not_before": 1}]},
            {"items": [{"user_id": "a", "not_before": "1"}]},
            {"items": [{"jti": ""}]},
            {"items": [{"jti": "j" * 2_000}]},
            {"items": [{"jti": "j"}] * (MAX_PAGE_ITEMS + 1)},
        ],
    )
    def test_a_page_that_is_not_the_contract(self, change: Mapping[str, Any]) -> None:
        good = {"epoch": "e", "cursor": "c", "as_of": 1.0, "more": False, "items": [{"jti": "j"}]}
        assert parse_page(json.dumps(good).encode()).items == (RevocationItem(jti="j"),)
        with pytest.raises(BadAnswer):
            parse_page(json.dumps({**good, **change}).encode())

    @pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff", b"null"])
    def test_a_page_that_is_not_even_json(self, body: bytes) -> None:
        with pytest.raises(BadAnswer):
            parse_page(body)
