"""What the doors ask: validation, the key set, the feed, health."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from tests.authd_support import SECRET, Authd, Serve, bearer, service_header

from doorward.core.answer import Invalid, Valid, parse_answer

WAKE_SECONDS = 0.5


async def test_a_good_token_reads_by_the_strict_contract(authd: Authd) -> None:
    tokens = await authd.sign_up()
    for fields in ({}, {"audience": "doorward"}):
        body = {"token": tokens["access_token"], **fields}
        async with authd.http.post(authd.url + "/auth/validate", json=body, headers=service_header()) as answer:
            assert answer.status == 200
            parsed = parse_answer(await answer.read())
        assert isinstance(parsed, Valid)
        assert parsed.user_id == tokens["user"]["user_id"]
        assert parsed.permissions == frozenset({"chat"})
        assert parsed.session_id
        assert parsed.expires_at
        assert 590 <= parsed.expires_at - time.time() <= 600


@pytest.mark.parametrize("token", ["opaque-and-random", "a.b.c", "", "é", "x" * 20_000])
async def test_what_is_no_token_of_ours_is_simply_invalid(authd: Authd, token: str) -> None:
    body = {"token": token, "audience": "doorward"}
    async with authd.http.post(authd.url + "/auth/validate", json=body, headers=service_header()) as answer:
        assert answer.status == 200
        assert isinstance(parse_answer(await answer.read()), Invalid)


async def test_another_audience_is_invalid(authd: Authd) -> None:
    tokens = await authd.sign_up()
    assert (await authd.validate(tokens["access_token"], audience="other"))[1]["valid"] is False


@pytest.mark.parametrize(
    "headers",
    [
        {},
        service_header("wrong"),
        {"authorization": aiohttp.encode_basic_auth("another", SECRET)},
        {"authorization": "Basic not-base64!"},
        {"authorization": "Basic bm9jb2xvbg=="},
        {"authorization": f"Bearer {SECRET}"},
    ],
)
async def test_our_own_credential_refused_never_looks_like_the_users(authd: Authd, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/auth/validate"), ("GET", "/auth/revocations")):
        async with authd.http.request(method, authd.url + path, json={"token": "x"}, headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert await answer.json() == {"error": "invalid_client"}


async def test_permissions_are_the_live_ones(authd: Authd) -> None:
    tokens = await authd.sign_up()
    await authd.sql("UPDATE users SET permissions = '[\"chat\", \"later\"]' WHERE email = 'ann@example.com'")
    assert (await authd.validate(tokens["access_token"]))[1]["permissions"] == ["chat", "later"]


async def test_the_feed_wakes_at_once(authd: Authd) -> None:
    tokens = await authd.sign_up()
    _, start = await authd.revocations()
    poll = asyncio.create_task(authd.revocations(after=start["cursor"], epoch=start["epoch"], wait=20))
    await asyncio.wait({poll}, timeout=0.3)
    assert not poll.done()
    revoked = time.monotonic()
    await authd.post("/auth/logout", {"refresh_token": tokens["refresh_token"]})
    status, page = await asyncio.wait_for(poll, 5)
    assert time.monotonic() - revoked < WAKE_SECONDS
    assert status == 200
    assert [set(item) for item in page["items"]] == [{"session_id"}]
    assert (page["epoch"], page["more"]) == (start["epoch"], False)
    assert page["as_of"] >= start["as_of"]
    _, empty = await authd.revocations(after=page["cursor"], epoch=page["epoch"])
    assert (empty["items"], empty["cursor"]) == ([], page["cursor"])


async def test_the_feed_wakes_for_another_process(serve: Serve) -> None:
    async with serve() as one, serve() as two:
        tokens = await one.sign_up()
        _, start = await two.revocations()
        poll = asyncio.create_task(two.revocations(after=start["cursor"], epoch=start["epoch"], wait=20))
        await asyncio.wait({poll}, timeout=0.3)
        assert not poll.done()
        await one.post("/auth/logout", {"refresh_token": tokens["refresh_token"]})
        revoked = time.monotonic()
        _, page = await asyncio.wait_for(poll, 5)
        assert time.monotonic() - revoked < WAKE_SECONDS
        assert len(page["items"]) == 1


async def test_a_revocation_by_user_says_until_when(authd: Authd) -> None:
    ann = await authd.sign_up()
    root = await authd.sign_in("root@example.com", "correct horse")
    await authd.post("/auth/revoke", {"user_id": ann["user"]["user_id"]}, headers=bearer(root))
    _, page = await authd.revocations()
    [item] = page["items"]
    assert item["user_id"] == ann["user"]["user_id"]
    assert abs(item["not_before"] / 1000 - time.time()) < 5
    again = await authd.sign_in("ann@example.com", "correct horse")
    assert (await authd.validate(again["access_token"]))[1]["valid"] is True


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"after": 0}, 400),
        ({"epoch": "x"}, 400),
        ({"after": "x", "epoch": "x"}, 400),
        ({"after": "-1", "epoch": "x"}, 400),
        ({"after": "9" * 30, "epoch": "x"}, 400),
        ({"wait": 21}, 400),
        ({"wait": "nan"}, 400),
        ({"wait": -1}, 400),
        ({"after": 0, "epoch": "unknown"}, 410),
    ],
)
async def test_a_question_that_cannot_be_answered(authd: Authd, query: dict[str, Any], status: int) -> None:
    assert (await authd.revocations(**query))[0] == status


async def test_pages_follow_on_through_more(authd: Authd) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
    await authd.sql(
        "BEGIN IMMEDIATE",
        f"{numbers} INSERT INTO revocations (seq, jti, at) SELECT i, 'j' || i, {time.time()} FROM n",
        "UPDATE feed SET head = 1200",
        "COMMIT",
    )
    _, page = await authd.revocations()
    seen = list(page["items"])
    while page["more"]:
        _, page = await authd.revocations(after=page["cursor"], epoch=page["epoch"], wait=20)
        seen += page["items"]
    assert [item["jti"] for item in seen] == [f"j{number}" for number in range(1, 1201)]


async def test_stopping_answers_long_polls_at_once(serve: Serve) -> None:
    async with serve() as authd:
        _, start = await authd.revocations()
        poll = asyncio.create_task(authd.revocations(after=start["cursor"], epoch=start["epoch"], wait=20))
        await asyncio.wait({poll}, timeout=0.3)
        assert not poll.done()
        stopped = time.monotonic()
        authd.stop()
        status, body = await asyncio.wait_for(poll, 5)
        assert time.monotonic() - stopped < 1
        assert (status, body["code"]) == (503, "RESTARTING")


async def test_health_and_key_set(authd: Authd) -> None:
    assert await authd.get("/auth/health") == (200, {"status": "ok"})
    async with authd.http.get(authd.url + "/.well-known/jwks.json") as answer:
        assert answer.headers["cache-control"] == "public, max-age=300"
        [key] = (await answer.json())["keys"]
    assert "d" not in key
    assert (key["alg"], key["use"]) == ("ES256", "sig")


async def test_the_wrong_method_is_405(authd: Authd) -> None:
    status, body = await authd.get("/auth/login")
    assert (status, body["code"]) == (405, "METHOD_NOT_ALLOWED")
