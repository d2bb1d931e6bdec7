"""The fake speaks the contract over a real socket, and misbehaves exactly as told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from doorward.errors import UsageError
from doorward.testing import Endpoint, FakeAuthService, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOUND_SECONDS = 3.0


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthService]:
    async with FakeAuthService() as service:
        yield service


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_SECONDS)) as session:
        yield session


def asked_with(auth: FakeAuthService, secret: str | None = None) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(auth.service_id, secret or auth.service_secret)}


async def validate(http: aiohttp.ClientSession, auth: FakeAuthService, token: str, **headers: str) -> tuple[int, Any]:
    body = {"token": token, "audience": auth.audience}
    async with http.post(auth.url + Endpoint.VALIDATE, json=body, headers=headers or asked_with(auth)) as answer:
        return answer.status, await answer.json()


async def poll(http: aiohttp.ClientSession, auth: FakeAuthService, **query: str) -> tuple[int, Any]:
    async with http.get(auth.url + Endpoint.REVOCATIONS, params=query, headers=asked_with(auth)) as answer:
        return answer.status, await answer.json()


async def test_a_token_of_its_own_is_valid_and_names_its_user(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    token = auth.issue("ada", permissions=["chat", "admin"], session_id="s-1")
    status, answer = await validate(http, auth, token)
    assert status == 200
    assert answer["valid"] is True
    assert (answer["user_id"], answer["permissions"], answer["session_id"]) == ("ada", ["chat", "admin"], "s-1")
    assert not any(key.startswith("_") for key in answer)
    assert auth.calls[Endpoint.VALIDATE] == 1
    assert auth.asked_about[token] == 1
    assert auth.requests[-1].headers["authorization"].startswith("Basic ")


async def test_a_token_is_valid_for_its_own_audience(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    for aud, valid in (("another", False), (["another", auth.audience], True), (None, False)):
        assert (await validate(http, auth, auth.issue(aud=aud)))[1]["valid"] is valid


async def test_its_jwt_verifies_against_its_published_keys(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    before = auth.issue()
    auth.rotate_key()
    after = auth.issue(audience_hint=None, tenant="t-1")
    async with http.get(auth.url + Endpoint.JWKS) as answer:
        keys = KeySet.import_key_set(await answer.json())
    assert jwt.decode(before, keys, algorithms=["ES256"]).claims["iss"] == auth.url
    decoded = jwt.decode(after, keys, algorithms=["ES256"])
    assert decoded.header["typ"] == "at+jwt"
    assert decoded.claims["tenant"] == "t-1"
    assert "audience_hint" not in decoded.claims


async def test_rotation_can_drop_the_old_key_and_withhold_the_new_one(auth: FakeAuthService) -> None:
    first = auth.mint.kid
    second = auth.rotate_key(publish=False)
    assert [key["kid"] for key in auth.mint.key_set()["keys"]] == [first]
    auth.mint.publish(second)
    auth.mint.withdraw(first)
    assert [key["kid"] for key in auth.mint.key_set()["keys"]] == [second]
    third = auth.rotate_key(keep_old=False)
    assert [key["kid"] for key in auth.mint.key_set()["keys"]] == [third]
    with pytest.raises(UsageError):
        auth.mint.publish("nobody's")


async def test_what_it_did_not_issue_or_no_longer_likes_is_invalid(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    rejected = auth.issue()
    auth.reject(rejected)
    for token in (rejected, auth.issue(ttl_seconds=-1), auth.mint.forged(), "binary junk"):
        assert await validate(http, auth, token) == (200, {"valid": False, "error": "invalid_token"})
    auth.accept(rejected)
    assert (await validate(http, auth, rejected))[1]["valid"] is True


async def test_an_opaque_token_is_known_here_only(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    token = auth.issue_opaque("grace")
    assert token.count(".") == 0
    assert (await validate(http, auth, token))[1]["user_id"] == "grace"


async def test_the_service_credential_is_checked_before_the_token(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    token = auth.issue()
    status, answer = await validate(http, auth, token, **asked_with(auth, "wrong"))
    assert (status, answer) == (401, {"error": "invalid_client"})
    own_headers = {"X-Service-ID": auth.service_id, "X-Service-Secret": auth.service_secret}
    assert (await validate(http, auth, token, **own_headers))[0] == 200
    auth.refuse_service_credential = True
    async with http.post(auth.url + Endpoint.VALIDATE, json={"token": token}, headers=asked_with(auth)) as refused:
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
    auth.answer_normally()
    assert (await validate(http, auth, token))[0] == 200


async def test_invalid_can_be_said_as_401_about_the_token(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    auth.invalid_as_401 = True
    async with http.post(auth.url + Endpoint.VALIDATE, json={"token": "x"}, headers=asked_with(auth)) as answer:
        assert answer.status == 401
        assert await answer.json() == {"error": "invalid_token"}
        assert "WWW-Authenticate" not in answer.headers


async def test_an_altered_answer_may_name_another_user(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    token = auth.issue("ada")
    auth.alter_answer(token, user_id="mallory", email=None)
    answer = (await validate(http, auth, token))[1]
    assert answer["user_id"] == "mallory"
    assert "email" not in answer
    with pytest.raises(UsageError):
        auth.alter_answer("stranger", user_id="mallory")


async def test_a_script_replaces_the_answer_for_so_many_times(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    token = auth.issue()
    auth.answer_with(503, {"error": "busy"}, {"Content-Type": "application/json", "Retry-After": "7"}, times=2)
    assert [(await validate(http, auth, token))[0] for _ in range(3)] == [503, 503, 200]
    auth.answer_with(200, '{"valid": "true"}')
    assert [(await validate(http, auth, token))[1]["valid"] for _ in range(2)] == ["true", "true"]
    assert auth.calls[Endpoint.VALIDATE] == 5


async def test_latency_holds_every_answer(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    auth.latency_seconds = 0.2
    started = asyncio.get_running_loop().time()
    async with http.get(auth.url + Endpoint.HEALTH) as answer:
        assert answer.status == 200
    assert 0.19 <= asyncio.get_running_loop().time() - started < BOUND_SECONDS


async def test_health_follows_the_switch(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    auth.healthy = False
    async with http.get(auth.url + Endpoint.HEALTH) as answer:
        assert answer.status == 503


async def test_introspection_speaks_rfc_7662(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    token = auth.issue("ada", permissions=["chat", "admin"])
    url = auth.url + Endpoint.INTROSPECT
    async with http.post(url, data={"token": token}, headers=asked_with(auth)) as answer:
        content = await answer.json()
    assert (content["active"], content["sub"], content["scope"]) == (True, "ada", "chat admin")
    async with http.post(url, data={"token": "stranger"}, headers=asked_with(auth)) as answer:
        assert await answer.json() == {"active": False}


async def test_a_revocation_wakes_the_waiting_follower_at_once(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    token = auth.issue("ada", session_id="s-9")
    _, snapshot = await poll(http, auth)
    assert (snapshot["items"], snapshot["more"]) == ([], False)
    started = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(poll(http, auth, after=snapshot["cursor"], epoch=snapshot["epoch"], wait="20"))
    await eventually(lambda: auth.calls[Endpoint.REVOCATIONS] >= 2)
    auth.revoke(session_id="s-9")
    _, page = await waiting
    assert page["items"] == [{"session_id": "s-9"}]
    assert page["cursor"] != snapshot["cursor"]
    assert asyncio.get_running_loop().time() - started < BOUND_SECONDS
    assert (await validate(http, auth, token))[1]["valid"] is False


async def test_an_empty_poll_still_moves_as_of(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    _, first = await poll(http, auth)
    status, second = await poll(http, auth, after=first["cursor"], epoch=first["epoch"], wait="0.05")
    assert (status, second["items"], second["cursor"]) == (200, [], first["cursor"])
    assert second["as_of"] > first["as_of"]


async def test_the_feed_comes_in_pages_and_a_user_is_revoked_by_time(
    auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    old, new = auth.issue("ada", age_seconds=100), auth.issue("ada")
    auth.page_size = 2
    auth.revoke(jti="j-1")
    auth.revoke(user_id="ada", not_before_ms=int((auth.mint.claims()["iat"] - 50) * 1000))
    auth.revoke(jti="j-2")
    _, first = await poll(http, auth)
    _, second = await poll(http, auth, after=first["cursor"], epoch=first["epoch"])
    assert (first["more"], second["more"]) == (True, False)
    assert [next(iter(item)) for item in first["items"] + second["items"]] == ["jti", "user_id", "jti"]
    assert [(await validate(http, auth, token))[1]["valid"] for token in (old, new)] == [False, True]


async def test_a_lost_cursor_and_a_missing_feed_are_answers(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    _, first = await poll(http, auth)
    auth.expire_cursors()
    assert (await poll(http, auth, after=first["cursor"], epoch=first["epoch"], wait="20"))[0] == 410
    assert (await poll(http, auth, after="junk"))[0] == 410
    auth.feed = False
    assert (await poll(http, auth))[0] == 404


@pytest.mark.parametrize("wrong", [{}, {"jti": "a", "session_id": "b"}, {"jti": "a", "not_before_ms": 1}])
async def test_a_revocation_names_exactly_one_thing(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        FakeAuthService().revoke(**wrong)


async def test_a_restart_keeps_port_keys_and_tokens(http: aiohttp.ClientSession) -> None:
    auth = FakeAuthService()
    await auth.start()
    token, port = auth.issue(), auth.port
    with pytest.raises(UsageError):
        await auth.start()
    await auth.aclose()
    with pytest.raises(aiohttp.ClientConnectorError):
        await validate(http, auth, token)
    async with auth:
        assert auth.port == port
        assert (await validate(http, auth, token))[1]["valid"] is True


async def test_closing_does_not_wait_for_a_long_poll_or_a_slow_answer(http: aiohttp.ClientSession) -> None:
    async with FakeAuthService() as auth:
        _, first = await poll(http, auth)
        started = asyncio.get_running_loop().time()
        long_poll = asyncio.create_task(poll(http, auth, after=first["cursor"], epoch=first["epoch"], wait="20"))
        await eventually(lambda: auth.calls[Endpoint.REVOCATIONS] >= 2)
        auth.latency_seconds = 60.0
        slow = asyncio.create_task(validate(http, auth, "x"))
        await eventually(lambda: auth.calls[Endpoint.VALIDATE] >= 1)
    assert asyncio.get_running_loop().time() - started < BOUND_SECONDS
    await asyncio.gather(long_poll, slow, return_exceptions=True)


async def test_a_skewed_clock_shows_in_its_tokens(auth: FakeAuthService) -> None:
    ours = auth.mint.claims()["iat"]
    auth.clock_skew_seconds = 3600
    assert auth.mint.claims()["iat"] - ours >= 3599


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(auth: FakeAuthService) -> None:
    second = FakeAuthService(port=auth.port)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.aclose()


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"token": 7}', b"{}"])
async def test_a_question_without_a_token_is_a_bad_request(
    body: bytes, auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    async with http.post(auth.url + Endpoint.VALIDATE, data=body, headers=asked_with(auth)) as answer:
        assert answer.status == 400


@pytest.mark.parametrize("authorization", ["Bearer x", "Basic !!!", "Basic bm9jb2xvbg==", "Basic"])
async def test_a_malformed_service_credential_is_refused(
    authorization: str, auth: FakeAuthService, http: aiohttp.ClientSession
) -> None:
    assert (await validate(http, auth, auth.issue(), Authorization=authorization))[0] == 401
    url = auth.url + Endpoint.INTROSPECT
    async with http.post(url, data={"token": "t"}, headers={"Authorization": authorization}) as answer:
        assert answer.status == 401


async def test_the_feed_asks_for_the_service_credential(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    async with http.get(auth.url + Endpoint.REVOCATIONS, params={"wait": "soon"}) as answer:
        assert answer.status == 401
    assert (await poll(http, auth, wait="soon"))[0] == 200


async def test_the_cache_hint_and_the_key_set_travel_along(auth: FakeAuthService, http: aiohttp.ClientSession) -> None:
    auth.cache_seconds = 5
    assert (await validate(http, auth, auth.issue()))[1]["cache_seconds"] == 5
    assert (auth.issuer, auth.audience) == (auth.url, "doorward")


async def test_a_burst_of_new_connections_costs_nobody_a_lost_syn(auth: FakeAuthService) -> None:
    loop = asyncio.get_running_loop()

    async def one(session: aiohttp.ClientSession) -> float:
        started = loop.time()
        async with session.get(auth.url + Endpoint.HEALTH) as answer:
            assert answer.status == 200
        return loop.time() - started

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        took = await asyncio.gather(*(one(session) for _ in range(200)))
    assert max(took) < 0.95, "a SYN was dropped and sent again a second later"
