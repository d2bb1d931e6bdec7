"""Registering, signing in and out, over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.authd_support import Authd, Serve, bearer
from tests.postgres import DATABASES, empty_database

from doorward.authd import admin
from doorward.errors import UsageError

EMAIL, PASSWORD = "ann@example.com", "correct horse"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str | None:
    return empty_database(request)


async def test_register_me_refresh_logout(authd: Authd) -> None:
    first = await authd.sign_up(EMAIL, PASSWORD)
    assert first["token_type"] == "Bearer"
    assert first["expires_in"] == 600
    assert first["user"]["permissions"] == ["chat"]
    assert await authd.get("/auth/me", headers=bearer(first)) == (200, first["user"])

    status, second = await authd.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert status == 200
    assert second.keys() == first.keys()
    assert second["refresh_token"] != first["refresh_token"]

    assert await authd.post("/auth/logout", {"refresh_token": second["refresh_token"]}) == (204, None)
    assert await authd.post("/auth/refresh", {"refresh_token": second["refresh_token"]}) == (
        400,
        {"error": "invalid_grant"},
    )
    assert await authd.get("/auth/me", headers=bearer(second)) == (401, {"error": "invalid_token"})


async def test_logout_by_access_token(authd: Authd) -> None:
    tokens = await authd.sign_up()
    assert await authd.post("/auth/logout", headers=bearer(tokens)) == (204, None)
    assert (await authd.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}))[0] == 400
    assert (await authd.post("/auth/logout", headers=bearer(tokens)))[0] == 401


async def test_a_refusal_does_not_say_why(authd: Authd) -> None:
    await authd.sign_up(EMAIL, PASSWORD)
    for email in (EMAIL, "nobody@example.com", "no address"):
        answer = await authd.post("/auth/login", {"email": email, "password": "wrong password"})
        assert answer == (401, {"error": "invalid_credentials"})


async def test_registering_is_off_by_default(serve: Serve) -> None:
    async with serve(allow_register=False) as authd:
        status, body = await authd.post("/auth/register", {"email": EMAIL, "password": PASSWORD})
    assert (status, body["code"]) == (404, "NOT_FOUND")


async def test_a_taken_address_and_a_weak_password(authd: Authd) -> None:
    await authd.sign_up(EMAIL, PASSWORD)
    assert await authd.post("/auth/register", {"email": EMAIL, "password": PASSWORD}) == (409, {"error": "email_taken"})
    status, body = await authd.post("/auth/register", {"email": "bob@example.com", "password": "short"})
    assert (status, body["error"]) == (400, "invalid_request")
    assert "8 characters" in body["message"]


async def test_a_one_time_code_signs_in_once(authd: Authd) -> None:
    code = await admin.issue_one_time_code(authd.settings, "root@example.com")
    status, body = await authd.post("/auth/login", {"one_time_code": code})
    assert status == 200
    assert body["user"]["permissions"] == ["admin", "chat"]
    refused = (401, {"error": "invalid_credentials"})
    assert await authd.post("/auth/login", {"one_time_code": code}) == refused
    assert await authd.post("/auth/login", {"one_time_code": "made-up"}) == refused


async def test_two_at_once_share_no_code(authd: Authd) -> None:
    code = await admin.issue_one_time_code(authd.settings, "root@example.com")
    answers = await asyncio.gather(*(authd.post("/auth/login", {"one_time_code": code}) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] + [401] * 9


async def test_an_old_code_does_not_sign_in(authd: Authd) -> None:
    code = await admin.issue_one_time_code(authd.settings, "root@example.com", life_seconds=0)
    assert (await authd.post("/auth/login", {"one_time_code": code}))[0] == 401
    with pytest.raises(UsageError, match="no user"):
        await admin.issue_one_time_code(authd.settings, "nobody@example.com")


async def test_two_tabs_refreshing_at_once_stay_signed_in(authd: Authd) -> None:
    tokens = await authd.sign_up()
    body = {"refresh_token": tokens["refresh_token"]}
    answers = await asyncio.gather(*(authd.post("/auth/refresh", body) for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    assert len({answer["refresh_token"] for _, answer in answers}) == 1
    for _, answer in answers:
        assert (await authd.validate(answer["access_token"]))[1]["valid"] is True


async def test_reuse_without_overlap_revokes_the_session(serve: Serve) -> None:
    async with serve(refresh_overlap_seconds=0) as authd:
        tokens = await authd.sign_up()
        _, second = await authd.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        for token in (tokens["refresh_token"], second["refresh_token"]):
            assert await authd.post("/auth/refresh", {"refresh_token": token}) == (400, {"error": "invalid_grant"})
        _, page = await authd.revocations()
        assert [set(item) for item in page["items"]] == [{"session_id"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/login", {}),
        ("/auth/login", {"email": EMAIL}),
        ("/auth/login", {"email": EMAIL, "password": ""}),
        ("/auth/login", {"email": EMAIL, "password": "x" * 1025}),
        ("/auth/login", {"email": EMAIL, "password": PASSWORD, "one_time_code": "x"}),
        ("/auth/login", {"email": 1, "password": PASSWORD}),
        ("/auth/login", {"email": EMAIL, "password": PASSWORD, "remember": True}),
        ("/auth/login", [EMAIL, PASSWORD]),
        ("/auth/refresh", {}),
        ("/auth/refresh", {"refresh_token": None}),
        ("/auth/refresh", None),
        ("/auth/logout", {}),
        ("/auth/logout", {"refresh_token": 5}),
        ("/auth/register", {"email": EMAIL}),
        ("/auth/register", {"email": "no address", "password": PASSWORD}),
        ("/auth/register", {"email": "ann\x9b@example.com", "password": PASSWORD}),
    ],
)
async def test_a_body_that_is_not_the_contract_is_400_and_never_invalid_grant(
    authd: Authd, path: str, body: Any
) -> None:
    status, answer = await authd.post(path, body)
    assert (status, answer["error"]) == (400, "invalid_request")
    assert PASSWORD not in answer["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"refresh_token": "\\ud800"}'])
async def test_junk_is_400(authd: Authd, content: bytes) -> None:
    async with authd.http.post(authd.url + "/auth/refresh", data=content) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"] in {"invalid_request", "invalid_grant"}


async def test_a_large_body_is_413_declared_or_not(authd: Authd) -> None:
    async def endless() -> Any:
        for _ in range(70):
            yield b"x" * 1024

    for data in (b"x" * 65_537, endless()):
        async with authd.http.post(authd.url + "/auth/login", data=data) as answer:
            assert answer.status == 413
            assert (await answer.json(content_type="application/problem+json"))["code"] == "BODY_TOO_LARGE"


async def test_a_body_that_never_comes_is_408_in_bounded_time(authd: Authd) -> None:
    host, port = authd.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    started = time.monotonic()
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 7
    writer.close()
    await writer.wait_closed()


async def test_too_many_attempts_say_when_to_come_back(serve: Serve) -> None:
    async with serve(login_account_burst=2) as authd:
        await authd.sign_up(EMAIL, PASSWORD)
        wrong = {"email": EMAIL, "password": "wrong password"}
        assert [(await authd.post("/auth/login", wrong))[0] for _ in range(2)] == [401, 401]
        async with authd.http.post(authd.url + "/auth/login", json=wrong) as answer:
            assert answer.status == 429
            assert await answer.json() == {"error": "too_many_attempts"}
            assert 1 <= int(answer.headers["retry-after"]) <= 5


async def test_the_hash_queue_has_an_end(serve: Serve) -> None:
    async with serve(hash_workers=1, hash_queue=1) as authd:
        body = {"email": "root@example.com", "password": "correct horse"}
        answers = await asyncio.gather(*(authd.post("/auth/login", body) for _ in range(9)))
        refused = [answer for status, answer in answers if status == 429]
        assert refused
        assert all(answer == {"error": "too_many_attempts"} for answer in refused)
        assert (await authd.post("/auth/login", body))[0] == 200


async def test_only_trusted_proxies_name_the_client(serve: Serve) -> None:
    wrong = {"email": "nobody@example.com", "password": "wrong password"}

    async def attempts(authd: Authd) -> list[int]:
        answers = []
        for number in range(4):
            header = {"x-forwarded-for": f"203.0.113.{number}"}
            body = {**wrong, "email": f"nobody{number}@example.com"}
            answers.append((await authd.post("/auth/login", body, headers=header))[0])
        return answers

    async with serve(login_address_burst=2, login_address_per_second=0.001) as authd:
        assert await attempts(authd) == [401, 401, 429, 429]
    async with serve(login_address_burst=2, settings={"trusted_proxies": ["127.0.0.0/8"]}) as authd:
        assert await attempts(authd) == [401] * 4


async def test_revoking_needs_the_admin(authd: Authd) -> None:
    ann = await authd.sign_up()
    body = {"user_id": ann["user"]["user_id"]}
    assert (await authd.post("/auth/revoke", body, headers=bearer(ann)))[0] == 403
    assert (await authd.post("/auth/revoke", body))[0] == 401
    root = await authd.sign_in("root@example.com", "correct horse")
    assert await authd.post("/auth/revoke", body, headers=bearer(root)) == (200, {"revoked": True})
    assert (await authd.validate(ann["access_token"]))[1]["valid"] is False
    for wrong in ({}, {"jti": ""}, {"jti": "a", "user_id": "b"}, {"jti": "x" * 257}):
        assert (await authd.post("/auth/revoke", wrong, headers=bearer(root)))[0] == 400
    assert (await authd.post("/auth/revoke", {"user_id": "usr_none"}, headers=bearer(root)))[0] == 404


async def test_answers_with_tokens_are_never_cached(authd: Authd) -> None:
    body = {"email": "root@example.com", "password": "correct horse"}
    async with authd.http.post(authd.url + "/auth/login", json=body) as answer:
        assert answer.headers["cache-control"] == "no-store"


async def test_only_listed_origins_may_read(serve: Serve) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with serve(allowed_origins=["https://app.example"]) as authd:
        for origin, allowed in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
            async with authd.http.options(authd.url + "/auth/login", headers={"origin": origin, **asked}) as answer:
                assert answer.headers.get("access-control-allow-origin") == allowed
