"""The session against an auth service over HTTP that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from doorward.client import FileStore, MemoryStore, Refused, Session, SignedOut, Token, Tokens, TokenStore, Unanswered
from doorward.errors import StoreError
from doorward.testing import eventually, no_leaks

NOW = 1_700_000_000.0
USER = {"user_id": "u1", "email": "ada@example.com", "permissions": ["chat"]}
OLD = Tokens("a1", "r1", NOW + 600.0)


class Auth:
    """Answers the requests to each path with what is in `answers`, one after another; the last one stays.

    `gate` holds up a refresh.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[web.Response | float]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def says(self, path: str, status: int, content: Any = None, **headers: str) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(path, []).append(web.json_response(content, status=status, headers=names))

    def grants(self, number: int, *, path: str = "/auth/refresh", **more: Any) -> None:
        content = {"access_token": f"a{number}", "refresh_token": f"r{number}", "expires_in": 600, "user": USER, **more}
        self.says(path, 200, content)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, await request.json()))
        if request.path == "/auth/refresh":
            await self.gate.wait()
        answers = self.answers[request.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return web.Response(status=500)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def serving(kind: type[Auth] = Auth) -> AsyncIterator[Auth]:
    auth = kind()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", auth.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        auth.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield auth
    finally:
        await runner.cleanup()


@pytest.fixture
async def auth() -> AsyncIterator[Auth]:
    async with serving() as auth:
        yield auth


@asynccontextmanager
async def session_at(auth: Auth, *, store: TokenStore | None = None, **options: Any) -> AsyncIterator[Session]:
    async with Session(auth.url, store=store, wall=lambda: NOW, **options) as session:
        yield session


async def kept(*tokens: Tokens) -> MemoryStore:
    store = MemoryStore()
    for each in tokens:
        await store.save(each)
    return store


async def test_who_signs_in_has_a_token(auth: Auth) -> None:
    auth.grants(1, path="/auth/login")
    store = MemoryStore()
    async with session_at(auth, store=store) as session:
        assert not await session.signed_in()
        user = await session.sign_in(email="ada@example.com", password="correct horse")
        assert user == await session.user()
        assert user is not None
        assert user.email == "ada@example.com"
        assert await session.token() == Token("a1", NOW + 600.0)
        assert await store.load() == Tokens("a1", "r1", NOW + 600.0, user)
    assert auth.asked == [("/auth/login", {"email": "ada@example.com", "password": "correct horse"})]


async def test_a_one_time_code_does_too(auth: Auth) -> None:
    auth.grants(1, path="/auth/login")
    async with session_at(auth) as session:
        await session.sign_in(code="c0de")
    assert auth.asked == [("/auth/login", {"one_time_code": "c0de"})]


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (401, {"error": "invalid_credentials"}, "does not accept this e-mail address and password"),
        (400, {"error": "invalid_request", "message": "send either"}, "send either"),
        (404, None, "there is no /auth/login at this address"),
    ],
)
async def test_a_no_to_a_sign_in_is_refused(status: int, content: Any, words: str, auth: Auth) -> None:
    auth.says("/auth/login", status, content)
    async with session_at(auth) as session:
        with pytest.raises(Refused, match=words) as told:
            await session.sign_in(email="ada@example.com", password="wrong")
        assert told.value.status == status
        assert not await session.signed_in()


@pytest.mark.parametrize(
    ("status", "content"),
    [(503, {"code": "SERVICE_UNAVAILABLE", "retry_after_ms": 1500}), (429, None), (200, {"a": 1})],
)
async def test_could_not_ask_is_no_refusal(status: int, content: Any, auth: Auth) -> None:
    auth.says("/auth/login", status, content, Retry_After="9")
    async with session_at(auth) as session:
        with pytest.raises(Unanswered) as told:
            await session.sign_in(email="ada@example.com", password="right")
        waits = {503: 1.5, 429: 9.0, 200: None}
        assert told.value.retry_after_seconds == waits[status]


async def test_nobody_there_is_no_refusal_either() -> None:
    async with Session("http://127.0.0.1:1") as session:
        with pytest.raises(Unanswered) as told:
            await session.sign_in(email="ada@example.com", password="right")
        assert told.value.code == "UNREACHABLE"


async def test_refresh_rotates_and_keeps_who_it_is(auth: Auth) -> None:
    auth.grants(2, user=None)
    store = await kept(OLD)
    async with session_at(auth, store=store) as session:
        assert await session.token() == Token("a1", NOW + 600.0)
        assert auth.asked == []
        assert await session.token(stale="a1") == Token("a2", NOW + 600.0)
        assert await session.token(stale="a1") == Token("a2", NOW + 600.0)
    assert auth.asked == [("/auth/refresh", {"refresh_token": "r1"})]
    tokens = await store.load()
    assert tokens is not None
    assert (tokens.refresh_token, tokens.user) == ("r2", OLD.user)


async def test_a_token_near_its_end_is_not_handed_out(auth: Auth) -> None:
    auth.grants(2)
    async with session_at(auth, store=await kept(Tokens("a1", "r1", NOW + 4.9))) as session:
        assert (await session.token()).value == "a2"


async def test_all_who_ask_at_once_share_one_refresh_and_nobody_owns_it(auth: Auth) -> None:
    auth.grants(2)
    async with session_at(auth, store=await kept(OLD)) as session:
        first = asyncio.create_task(session.token(stale="a1"))
        others = [asyncio.create_task(session.token(stale="a1")) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()
        assert {(await other).value for other in others} == {"a2"}
        assert first.cancelled()
    assert len(auth.asked) == 1


async def test_only_invalid_grant_drops_the_refresh_token(auth: Auth) -> None:
    for status, content in (
        (503, {"code": "SERVICE_UNAVAILABLE", "cause": "deadline"}),
        (500, None),
        (401, {"error": "invalid_grant"}),
        (400, {"error": "invalid_request"}),
        (404, None),
        (200, {"access_token": "no refresh token"}),
        (200, {"access_token": "a2", "refresh_token": ""}),
        (200, {"access_token": "", "refresh_token": "r2"}),
        (400, {"error": "invalid_grant"}),
    ):
        auth.says("/auth/refresh", status, content)
    store = await kept(OLD)
    async with session_at(auth, store=store) as session:
        for _ in range(8):
            with pytest.raises(Unanswered):
                await session.token(stale="a1")
            assert await store.load() == OLD
        with pytest.raises(SignedOut):
            await session.token(stale="a1")
        assert await store.load() is None
        with pytest.raises(SignedOut):
            await session.token()
    assert len(auth.asked) == 9


async def test_an_auth_service_that_hangs_is_given_up_and_costs_nothing(auth: Auth) -> None:
    auth.answers["/auth/refresh"] = [30.0]
    store = await kept(OLD)
    async with session_at(auth, store=store, call_seconds=0.2) as session:
        with pytest.raises(Unanswered):
            await session.token(stale="a1")
    assert await store.load() == OLD


async def test_another_program_that_has_refreshed_is_noticed(auth: Auth, tmp_path: Path) -> None:
    """Before asking; and when the answer is that the old token is dead."""
    auth.says("/auth/refresh", 400, {"error": "invalid_grant"})
    path = tmp_path / "session.json"
    await FileStore(path).save(OLD)

    class Interrupted(FileStore):
        """Another program saves while we ask."""

        loads = 0

        async def load(self) -> Tokens | None:
            self.loads += 1
            if self.loads == 3:
                await FileStore(path).save(Tokens("a3", "r3", NOW + 600.0))
            return await super().load()

    async with session_at(auth, store=Interrupted(path)) as session:
        assert (await session.token(stale="a1")).value == "a3"
        await FileStore(path).save(Tokens("a4", "r4", NOW + 600.0))
        assert (await session.token(stale="a3")).value == "a4"
    assert len(auth.asked) == 1


class FullDisk(MemoryStore):
    """Takes nothing while `is_full`."""

    is_full = True

    async def save(self, tokens: Tokens) -> None:
        if self.is_full:
            raise StoreError("no space left on device")
        await super().save(tokens)


async def test_a_full_disk_does_not_cost_the_session(auth: Auth) -> None:
    auth.grants(2)
    auth.grants(3)
    store = FullDisk()
    store._tokens = OLD
    async with session_at(auth, store=store) as session:
        assert (await session.token(stale="a1")).value == "a2"
        assert (await session.token()).value == "a2"
        store.is_full = False
        assert (await session.token(stale="a2")).value == "a3"
    assert [body["refresh_token"] for _, body in auth.asked] == ["r1", "r2"]
    tokens = await store.load()
    assert tokens is not None
    assert tokens.refresh_token == "r3"


async def test_what_the_disk_did_not_take_is_saved_once_it_does(auth: Auth) -> None:
    auth.grants(2)
    auth.grants(3)
    store = FullDisk()
    store._tokens = OLD
    async with session_at(auth, store=store) as session:
        assert (await session.token(stale="a1")).value == "a2"
        assert (await session.token(stale="a2")).value == "a3"
        assert await store.load() == OLD
        store.is_full = False
        assert await session.signed_in()
    assert await refresh_token_in(store) == "r3"


async def test_what_the_disk_did_not_take_gives_way_to_what_another_program_saved(auth: Auth) -> None:
    auth.grants(2)
    store = FullDisk()
    store._tokens = OLD
    async with session_at(auth, store=store) as session:
        assert (await session.token(stale="a1")).value == "a2"
        store.is_full, store._tokens = False, THEIRS
        assert (await session.token()).value == "a7"
    assert await store.load() == THEIRS


async def test_a_file_that_cannot_be_read_for_a_moment_does_not_cost_the_session(auth: Auth) -> None:
    class Flickering(MemoryStore):
        loads = 0

        async def load(self) -> Tokens | None:
            self.loads += 1
            if self.loads == 3:
                raise StoreError("input/output error")
            return await super().load()

    auth.grants(2)
    store = Flickering()
    await store.save(OLD)
    async with session_at(auth, store=store) as session:
        assert (await session.token(stale="a1")).value == "a2"
        assert (await session.token()).value == "a2"
    assert await refresh_token_in(store) == "r2"


# A refresh that comes too late


THEIRS = Tokens("a7", "r7", NOW + 600.0)
LATE = [
    pytest.param(200, {"access_token": "a2", "refresh_token": "r2", "expires_in": 600, "user": USER}, id="granted"),
    pytest.param(400, {"error": "invalid_grant"}, id="invalid_grant"),
    pytest.param(503, None, id="unavailable"),
]


async def refresh_token_in(store: TokenStore) -> str | None:
    tokens = await store.load()
    return None if tokens is None else tokens.refresh_token


@asynccontextmanager
async def refreshing(auth: Auth, session: Session) -> AsyncIterator[asyncio.Task[Token]]:
    """Inside, the refresh has been sent; afterwards it is answered."""
    auth.gate.clear()
    task = asyncio.create_task(session.token(stale="a1"))
    await eventually(lambda: auth.asked)
    yield task
    auth.gate.set()
    await asyncio.wait({task})


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(("status", "content"), LATE)
async def test_who_signs_out_during_a_refresh_stays_signed_out(
    status: int, content: Any, is_full: bool, auth: Auth
) -> None:
    auth.says("/auth/refresh", status, content)
    auth.says("/auth/logout", 204)
    store = FullDisk()
    store._tokens, store.is_full = OLD, is_full
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            assert await session.sign_out()
        with pytest.raises(SignedOut):
            await late
        assert not await session.signed_in()
    assert await store.load() is None


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(("status", "content"), LATE)
async def test_who_signs_in_during_a_refresh_of_somebody_else_stays_signed_in(
    status: int, content: Any, is_full: bool, auth: Auth
) -> None:
    auth.says("/auth/refresh", status, content)
    auth.grants(9, path="/auth/login", user={"user_id": "bob"})
    store = FullDisk()
    store._tokens, store.is_full = OLD, is_full
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            with pytest.raises(StoreError) if is_full else nullcontext():
                await session.sign_in(email="bob@example.com", password="right")
        assert (await late).value == "a9"
        user = await session.user()
        assert user is not None
        assert user.user_id == "bob"
        store.is_full = False
        assert await session.signed_in()
    assert await refresh_token_in(store) == "r9"


class SlowDisk(FullDisk):
    """Has room, and tells nothing of what it has done while it is `slow_at` that."""

    is_full = False

    def __init__(self) -> None:
        super().__init__()
        self._tokens = OLD
        self.slow_at: str | None = None
        self.untold = 0
        self.tells = asyncio.Event()

    async def load(self) -> Tokens | None:
        tokens = await super().load()
        await self._tell("load")
        return tokens

    async def save(self, tokens: Tokens) -> None:
        await super().save(tokens)
        await self._tell("save")

    async def _tell(self, what: str) -> None:
        if what == self.slow_at:
            self.untold += 1
            await self.tells.wait()


async def test_who_signs_out_while_others_look_stays_signed_out(auth: Auth) -> None:
    """Each who looks tries again to save what the disk did not take."""
    auth.grants(2)
    auth.says("/auth/logout", 204)
    store = SlowDisk()
    async with session_at(auth, store=store) as session:
        store.is_full = True
        await session.token(stale="a1")
        store.is_full, store.slow_at = False, "load"
        calls = [asyncio.create_task(call) for call in (session.sign_out(), session.signed_in(), session.signed_in())]
        await eventually(lambda: store.untold == 3)
        store.slow_at = None
        store.tells.set()
        await asyncio.wait(calls)
        assert not await session.signed_in()
    assert await store.load() is None


async def test_who_signs_out_while_new_tokens_are_saved_stays_signed_out(auth: Auth) -> None:
    auth.grants(2)
    auth.says("/auth/logout", 204)
    store = SlowDisk()
    store.slow_at = "save"
    async with session_at(auth, store=store) as session:
        late = asyncio.create_task(session.token(stale="a1"))
        await eventually(lambda: store.untold)
        assert await session.sign_out()
        store.tells.set()
        with pytest.raises(SignedOut):
            await late
    assert await store.load() is None


async def test_who_signs_in_while_new_tokens_of_somebody_else_are_saved_stays_signed_in(auth: Auth) -> None:
    """Even where the disk is full by then."""
    auth.grants(2)
    auth.grants(9, path="/auth/login")
    store = SlowDisk()
    store.slow_at = "save"
    async with session_at(auth, store=store) as session:
        late = asyncio.create_task(session.token(stale="a1"))
        await eventually(lambda: store.untold)
        store.is_full = True
        with pytest.raises(StoreError):
            await session.sign_in(email="bob@example.com", password="right")
        store.tells.set()
        assert (await late).value == "a9"
        assert (await session.token()).value == "a9"


async def test_who_signs_in_just_as_a_dead_session_is_looked_up_stays_signed_in(auth: Auth) -> None:
    auth.says("/auth/refresh", 400, {"error": "invalid_grant"})
    auth.grants(9, path="/auth/login")
    store = SlowDisk()
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            store.slow_at = "load"
            auth.gate.set()
            await eventually(lambda: store.untold)
            await session.sign_in(email="bob@example.com", password="right")
            store.tells.set()
        with pytest.raises(Unanswered):
            await late
        assert (await session.token()).value == "a9"


@pytest.mark.parametrize(("status", "content"), LATE)
async def test_newer_tokens_of_another_program_outlive_a_late_answer(status: int, content: Any, auth: Auth) -> None:
    """Ours are used up by then: the auth service would take them for stolen, and end the session."""
    auth.says("/auth/refresh", status, content)
    store = await kept(OLD)
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            await store.save(THEIRS)
        assert (await late).value == "a7"
    assert await store.load() == THEIRS


@pytest.mark.parametrize(("status", "content"), LATE)
async def test_old_tokens_of_another_program_are_refreshed_by_the_next_try(
    status: int, content: Any, auth: Auth
) -> None:
    auth.says("/auth/refresh", status, content)
    auth.grants(8)
    store = await kept(OLD)
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            await store.save(Tokens("a7", "r7", NOW))
        with pytest.raises(Unanswered) as told:
            await late
        assert told.value.code == "NO_NEW_TOKEN"
        assert await refresh_token_in(store) == "r7"
        assert (await session.token()).value == "a8"
    assert [body["refresh_token"] for _, body in auth.asked] == ["r1", "r7"]


@pytest.mark.parametrize(("status", "content"), LATE)
async def test_a_sign_out_of_another_program_outlives_a_late_answer(status: int, content: Any, auth: Auth) -> None:
    auth.says("/auth/refresh", status, content)
    store = await kept(OLD)
    async with session_at(auth, store=store) as session:
        async with refreshing(auth, session) as late:
            await store.clear()
        with pytest.raises(SignedOut):
            await late
    assert await store.load() is None


async def test_signing_out_forgets_first_and_says_whether_it_was_heard(auth: Auth) -> None:
    auth.says("/auth/logout", 204)
    auth.says("/auth/logout", 503)
    for heard in (True, False):
        store = await kept(OLD)
        async with session_at(auth, store=store) as session:
            assert await session.sign_out() is heard
            assert await store.load() is None
            assert await session.sign_out() is True
    assert auth.asked == [("/auth/logout", {"refresh_token": "r1"})] * 2


async def test_closing_lets_a_refresh_under_way_come_to_its_end(auth: Auth) -> None:
    """A refresh token that was used up and whose successor nobody keeps would sign the person out."""
    auth.grants(2)
    store = await kept(OLD)
    auth.gate.clear()
    session = Session(auth.url, store=store, wall=lambda: NOW)
    leaving = asyncio.create_task(session.token(stale="a1"))
    await eventually(lambda: auth.asked)
    leaving.cancel()
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    auth.gate.set()
    await closing
    tokens = await store.load()
    assert tokens is not None
    assert tokens.refresh_token == "r2"


async def test_nothing_is_left_behind() -> None:
    async with no_leaks(), serving() as auth:
        auth.grants(2)
        async with session_at(auth, store=await kept(OLD)) as session:
            await session.token(stale="a1")
