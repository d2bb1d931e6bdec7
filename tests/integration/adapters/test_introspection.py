"""Token introspection against a real HTTP server that speaks RFC 7662 or breaks it: what is a no, and what is nobody's word."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest

from doorward.adapters.introspection import IntrospectionValidator
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.core.answer import Invalid, Valid
from doorward.core.deadline import Deadline
from doorward.errors import BackendError, BadAnswer, BadStatus, ServiceCredentialRefused, Throttled
from doorward.runtime.ports import Validator
from doorward.testing import Endpoint, FakeAuthService

CAPS = Caps(connect_seconds=5.0, read_seconds=5.0, write_seconds=5.0, pool_seconds=5.0)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def asking_as(
    credential: ServiceCredential | None, auth: FakeAuthService, transport: HttpTransport, trace: str | None = None
) -> Validator:
    return IntrospectionValidator(
        transport,
        url=auth.url + Endpoint.INTROSPECT,
        issuer="https://idp.example",
        audiences=frozenset({"chat", "api"}),
        credential=credential,
        caps=CAPS,
        traceparent=lambda: trace,
    )


@pytest.fixture
def validator(auth: FakeAuthService, transport: HttpTransport) -> Validator:
    return asking_as(ServiceCredential(auth.service_id, auth.service_secret), auth, transport, TRACE)


async def ask(validator: Validator, token: str = "token") -> Valid | Invalid:
    return await validator.validate(token, deadline=Deadline.after(asyncio.get_running_loop().time(), 10.0))


def answers(auth: FakeAuthService, status: int, body: Any = b"", **headers: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    auth.answer_with(status, raw, named, endpoint=Endpoint.INTROSPECT)


def active(**members: Any) -> dict[str, Any]:
    return {"active": True, "sub": "ada", **members}


async def test_a_good_token(auth: FakeAuthService, validator: Validator) -> None:
    answer = await ask(validator, auth.issue("ada", permissions=["chat", "admin"], session_id="s1"))
    assert isinstance(answer, Valid)
    assert (answer.user_id, answer.session_id) == ("ada", "s1")
    assert answer.permissions == {"chat", "admin"}


async def test_one_that_is_not_active(auth: FakeAuthService, validator: Validator) -> None:
    assert await ask(validator, "stranger") == Invalid()
    answers(auth, 200, {"active": False, "sub": "ada", "iss": "https://idp.example", "aud": "chat"})
    assert await ask(validator) == Invalid()


async def test_the_request_is_the_form_of_rfc_7662(auth: FakeAuthService, validator: Validator) -> None:
    await ask(validator, "a+b/c=&d")
    request = auth.requests[-1]
    assert parse_qsl(request.body.decode(), strict_parsing=True) == [
        ("token", "a+b/c=&d"),
        ("token_type_hint", "access_token"),
    ]
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert request.headers["traceparent"] == TRACE
    assert auth.calls == {Endpoint.INTROSPECT: 1}


# Who asks


@pytest.mark.parametrize(
    ("service_id", "secret", "pair"),
    [
        ("chat-backend_1.a~b", "s3cret", "chat-backend_1.a~b:s3cret"),
        ("a:b", "100% of+it", "a%3Ab:100%25+of%2Bit"),
        ("tür", "schlüssel:", "t%C3%BCr:schl%C3%BCssel%3A"),
    ],
)
async def test_name_and_secret_are_encoded_as_an_oauth_client_does(
    service_id: str, secret: str, pair: str, auth: FakeAuthService, transport: HttpTransport
) -> None:
    auth.service_id, auth.service_secret = service_id, secret
    assert await ask(asking_as(ServiceCredential(service_id, secret), auth, transport)) == Invalid()
    scheme, _, encoded = auth.requests[-1].headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", pair)
    assert "traceparent" not in auth.requests[-1].headers


async def test_in_headers_of_their_own_they_stay_as_they_are(auth: FakeAuthService, transport: HttpTransport) -> None:
    auth.service_id, auth.service_secret = "a:b", "100%+1"
    own = ServiceCredential("a:b", "100%+1", id_header="X-Service-ID", secret_header="X-Service-Secret")
    assert await ask(asking_as(own, auth, transport)) == Invalid()
    assert "authorization" not in auth.requests[-1].headers


async def test_nobody_is_named_where_the_service_wants_no_credential(
    auth: FakeAuthService, transport: HttpTransport
) -> None:
    answers(auth, 200, active())
    assert isinstance(await ask(asking_as(None, auth, transport)), Valid)
    assert "authorization" not in auth.requests[-1].headers


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        ({"error": "invalid_client"}, {"WWW_Authenticate": 'Basic realm="idp"'}),
        ({"error": "invalid_token"}, {}),
        ({"error": "invalid_token"}, {"WWW_Authenticate": 'Bearer error="invalid_token"'}),
        ({"active": False}, {}),
    ],
)
async def test_a_refusal_of_our_secret_says_nothing_about_the_token(
    status: int, body: Any, headers: Mapping[str, str], auth: FakeAuthService, validator: Validator
) -> None:
    """An endpoint of RFC 7662 says of a bad token `active: false`, and of a bad asker 401."""
    answers(auth, status, body, **headers)
    with pytest.raises(ServiceCredentialRefused, match=r"auth\.service_secret"):
        await ask(validator)


async def test_a_secret_that_the_service_does_not_know(auth: FakeAuthService, transport: HttpTransport) -> None:
    with pytest.raises(ServiceCredentialRefused):
        await ask(asking_as(ServiceCredential(auth.service_id, "another"), auth, transport), auth.issue("ada"))


# Could not ask


@pytest.mark.parametrize(("status", "retry_after", "seconds"), [(429, "7", 7.0), (429, None, 1.0), (503, "5", 5.0)])
async def test_asked_to_wait(
    status: int, retry_after: str | None, seconds: float, auth: FakeAuthService, validator: Validator
) -> None:
    answers(auth, status, {"active": False}, **({} if retry_after is None else {"Retry_After": retry_after}))
    with pytest.raises(Throttled) as caught:
        await ask(validator)
    assert (caught.value.status, caught.value.retry_after_seconds) == (status, seconds)


@pytest.mark.parametrize(
    ("status", "kind"), [(503, BadStatus), (500, BadStatus), (400, BadAnswer), (404, BadAnswer), (302, BadAnswer)]
)
async def test_any_other_status_is_no_answer(
    status: int, kind: type[BackendError], auth: FakeAuthService, validator: Validator
) -> None:
    for body in ({"active": False}, active()):
        answers(auth, status, body, Location="/")
        with pytest.raises(BackendError) as caught:
            await ask(validator)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"true",
        b'{"active": true, "sub": "ada"',
        b"[" * 60_000,
        b"\xff\xfe",
        {},
        {"sub": "ada"},
        {"active": "true", "sub": "ada"},
        {"active": 1, "sub": "ada"},
        {"active": "false"},
        {"active": None},
        {"active": True},
        active(sub=""),
        active(exp="soon"),
        active(scope=7),
        active(aud=7),
        active(aud={"chat": True}),
        active(aud=[["chat"]]),
        active(aud=["chat", {}]),
        active(aud=["chat", None]),
        active(iss=7),
        active(iss=["https://idp.example"]),
    ],
)
async def test_a_200_that_is_not_rfc_7662(body: Any, auth: FakeAuthService, validator: Validator) -> None:
    answers(auth, 200, body)
    with pytest.raises(BadAnswer):
        await ask(validator)


# For whom


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"iss": None, "aud": None},
        {"iss": "https://idp.example"},
        {"aud": "chat"},
        {"aud": ["account", "api"]},
        {"iss": "https://idp.example", "aud": ["chat"]},
    ],
)
async def test_one_that_is_for_us(members: dict[str, Any], auth: FakeAuthService, validator: Validator) -> None:
    answers(auth, 200, active(**members))
    assert await ask(validator) == Valid("ada")


@pytest.mark.parametrize(
    "members",
    [
        {"iss": "https://idp.example/"},
        {"iss": ""},
        {"iss": "https://evil.example", "aud": "chat"},
        {"aud": "account"},
        {"aud": "chatter"},
        {"aud": ""},
        {"aud": []},
        {"aud": ["account", "Chat"]},
        {"iss": "https://idp.example", "aud": ["account"]},
    ],
)
async def test_one_of_another_issuer_or_for_another_audience(
    members: dict[str, Any], auth: FakeAuthService, validator: Validator
) -> None:
    answers(auth, 200, active(**members))
    assert await ask(validator) == Invalid("another issuer or audience")
