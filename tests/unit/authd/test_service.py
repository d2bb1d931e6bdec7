"""What the service decides, on a real store, with a clock that obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog
from argon2 import PasswordHasher
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from tests.postgres import DATABASES, empty_database

from doorward.authd import schema
from doorward.authd.accounts import Account, User
from doorward.authd.passwords import Checked, HashQueueFull, PasswordPool
from doorward.authd.service import (
    AuthService,
    Refused,
    SignedIn,
    TooManyAttempts,
    Validated,
    _repeat,
    _setting_password,
)
from doorward.authd.sessions import Opened
from doorward.authd.store import Store
from doorward.authd.tokens import Unacceptable
from doorward.config import Settings
from doorward.errors import ConfigError, StoreError, UsageError
from doorward.runtime.ports import RevocationItem
from doorward.testing import ManualClock

HOME = "203.0.113.7"
EMAIL = "ann@example.com"
PASSWORD = "correct horse battery"
WEEK = 7 * 86_400


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str | None:
    return empty_database(request)


@pytest.fixture
async def ann(service: AuthService) -> SignedIn:
    return await service.register(HOME, EMAIL, PASSWORD)


async def is_good(service: AuthService, signed_in: SignedIn) -> bool:
    return isinstance(await service.validate(signed_in.access_token), Validated)


async def refused(service: AuthService, refresh_token: str) -> str:
    with pytest.raises(Refused) as caught:
        await service.refresh(refresh_token)
    return caught.value.error


async def revoked_sessions(service: AuthService) -> list[str | None]:
    page = await service.feed.poll(None, wait_seconds=0)
    return [item.session_id for item in page.items]


def session_of(service: AuthService, signed_in: SignedIn, clock: ManualClock) -> str | None:
    read = service.tokens.read(signed_in.access_token, wall_now=clock.wall())
    assert not isinstance(read, Unacceptable)
    return read.session_id


async def test_spelling_of_the_address_does_not_matter(service: AuthService, ann: SignedIn) -> None:
    again = await service.login(HOME, f"  {EMAIL.upper()} ", PASSWORD)
    assert again.user == ann.user
    with pytest.raises(Refused, match="email_taken"):
        await service.register(HOME, EMAIL.title(), PASSWORD)


@pytest.mark.parametrize(
    ("email", "password"),
    [("nobody", PASSWORD), ("a@b@c", PASSWORD), ("a" * 320 + "@x", PASSWORD), (EMAIL, "short"), (EMAIL, "é" * 513)],
)
async def test_what_cannot_be_an_account(service: AuthService, email: str, password: str) -> None:
    with pytest.raises(UsageError):
        await service.register(HOME, email, password)


async def test_refresh_keeps_the_session_and_makes_new_tokens(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    second = await service.refresh(ann.refresh_token)
    assert second.refresh_token != ann.refresh_token
    assert second.access_token != ann.access_token
    assert session_of(service, second, clock) == session_of(service, ann, clock)
    assert await is_good(service, second)
    assert await is_good(service, ann)


async def test_within_the_overlap_the_same_successor_comes_again(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    second = await service.refresh(ann.refresh_token)
    clock.advance(29.9)
    assert (await service.refresh(ann.refresh_token)).refresh_token == second.refresh_token
    assert await revoked_sessions(service) == []


async def test_after_the_overlap_reuse_revokes_the_family(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    second = await service.refresh(ann.refresh_token)
    clock.advance(30.1)
    assert await refused(service, ann.refresh_token) == "invalid_grant"
    assert await refused(service, second.refresh_token) == "invalid_grant"
    assert not await is_good(service, second)
    assert await revoked_sessions(service) == [session_of(service, ann, clock)]


async def test_once_the_successor_was_used_the_old_token_is_reuse(service: AuthService, ann: SignedIn) -> None:
    second = await service.refresh(ann.refresh_token)
    await service.refresh(second.refresh_token)
    assert await refused(service, ann.refresh_token) == "invalid_grant"
    assert not await is_good(service, second)


async def test_many_tabs_at_once_get_one_successor(service: AuthService, ann: SignedIn) -> None:
    answers = await asyncio.gather(*(service.refresh(ann.refresh_token) for _ in range(20)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert await revoked_sessions(service) == []


async def test_the_salt_is_erased_once_the_successor_was_used(service: AuthService, ann: SignedIn) -> None:
    async def salts(tx: AsyncConnection) -> int:
        table = schema.refresh_tokens
        return int((await tx.execute(select(func.count()).where(table.c.salt.is_not(None)))).scalar_one())

    second = await service.refresh(ann.refresh_token)
    assert await service._store.read(salts) == 1
    await service.refresh(second.refresh_token)
    assert await service._store.read(salts) == 1


async def test_another_session_of_the_user_lives_on(service: AuthService, ann: SignedIn) -> None:
    other = await service.login(HOME, EMAIL, PASSWORD)
    await service.logout(refresh_token=ann.refresh_token)
    assert not await is_good(service, ann)
    assert await is_good(service, other)


async def test_logging_out_twice_is_one_revocation(service: AuthService, ann: SignedIn, clock: ManualClock) -> None:
    for _ in range(2):
        await service.logout(refresh_token=ann.refresh_token)
    await service.logout(refresh_token="dwr_made-up")
    assert await revoked_sessions(service) == [session_of(service, ann, clock)]


async def test_revoking_the_user_ends_all_and_a_new_sign_in_works_at_once(service: AuthService, ann: SignedIn) -> None:
    assert await service.revoke(RevocationItem(user_id=ann.user.user_id))
    assert not await is_good(service, ann)
    assert await refused(service, ann.refresh_token) == "invalid_grant"
    again = await service.login(HOME, EMAIL, PASSWORD)
    assert await is_good(service, again)
    assert await service.revoke(RevocationItem(user_id=ann.user.user_id))
    assert not await is_good(service, again)
    page = await service.feed.poll(None, wait_seconds=0)
    times = [item.not_before_ms for item in page.items if item.not_before_ms is not None]
    assert times == sorted(set(times))
    assert len(times) == 2


async def test_revoking_one_token_leaves_the_session(service: AuthService, ann: SignedIn, clock: ManualClock) -> None:
    read = service.tokens.read(ann.access_token, wall_now=clock.wall())
    assert not isinstance(read, Unacceptable)
    assert await service.revoke(RevocationItem(jti=read.jti))
    assert not await is_good(service, ann)
    assert await is_good(service, await service.refresh(ann.refresh_token))


@pytest.mark.parametrize("item", [RevocationItem(session_id="ses_x"), RevocationItem(user_id="usr_x")])
async def test_revoking_what_is_not_there_says_so(service: AuthService, item: RevocationItem) -> None:
    assert not await service.revoke(item)


async def test_an_expired_access_token_is_invalid(service: AuthService, ann: SignedIn, clock: ManualClock) -> None:
    clock.advance(606)
    assert not await is_good(service, ann)


async def test_an_expired_refresh_token_is_invalid(service: AuthService, ann: SignedIn, clock: ManualClock) -> None:
    clock.advance(2 * WEEK + 1)
    assert await refused(service, ann.refresh_token) == "invalid_grant"


async def test_a_session_in_use_outlives_its_first_token(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    token = ann.refresh_token
    for _ in range(4):
        clock.advance(WEEK)
        token = (await service.refresh(token)).refresh_token
        await service._forget()
    assert (await service.refresh(token)).user == ann.user


async def test_forgetting_keeps_what_counts_and_drops_the_rest(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    async def rows(tx: AsyncConnection) -> list[int]:
        tables = (schema.sessions, schema.refresh_tokens, schema.one_time_codes, schema.revocations, schema.users)
        return [int((await tx.execute(select(func.count()).select_from(table))).scalar_one()) for table in tables]

    await service.refresh(ann.refresh_token)
    await service.logout(refresh_token=ann.refresh_token)
    await service._forget()
    assert await service._store.read(rows) == [1, 2, 0, 1, 1]
    clock.advance(3 * WEEK)
    await service._forget()
    assert await service._store.read(rows) == [0, 0, 0, 0, 1]


async def test_guessing_one_account_is_slowed_down_but_not_for_its_owner(
    service: AuthService, ann: SignedIn, clock: ManualClock
) -> None:
    await service.login(HOME, EMAIL, PASSWORD)
    for attempt in range(3):
        with pytest.raises(Refused, match="invalid_credentials"):
            await service.login(f"198.51.100.{attempt}", EMAIL, "wrong password")
    with pytest.raises(TooManyAttempts) as caught:
        await service.login("198.51.100.9", EMAIL, PASSWORD)
    assert 0 < caught.value.retry_after_seconds <= 5
    assert (await service.login(HOME, EMAIL, PASSWORD)).user == ann.user
    clock.advance(caught.value.retry_after_seconds + 0.01)
    assert (await service.login("198.51.100.9", EMAIL, PASSWORD)).user == ann.user


async def test_guessing_from_one_address_is_slowed_down(service: AuthService, ann: SignedIn) -> None:
    outcomes: list[type[BaseException]] = []
    for attempt in range(6):
        with pytest.raises((Refused, TooManyAttempts)) as caught:
            await service.login("198.51.100.1", f"user{attempt}@example.com", "wrong password")
        outcomes.append(caught.type)
    assert outcomes == [Refused] * 5 + [TooManyAttempts]
    assert (await service.login(HOME, EMAIL, PASSWORD)).user == ann.user


async def test_signing_in_again_and_again_is_no_attack(service: AuthService, ann: SignedIn) -> None:
    for _ in range(8):
        await service.login(HOME, EMAIL, PASSWORD)


class BusyPool(PasswordPool):
    """Takes nobody."""

    async def hash(self, password: str) -> str:
        raise HashQueueFull("too many sign-ins at once")

    async def verify(self, encoded: str | None, password: str) -> Checked:
        raise HashQueueFull("too many sign-ins at once")


@asynccontextmanager
async def out_of_order(service: AuthService, why: str) -> AsyncIterator[type[Exception]]:
    """The store, or the threads that hash, cannot be asked meanwhile. Gives the error."""
    store, passwords = service._store, service._passwords
    if why == "store":
        engine = create_async_engine("sqlite+aiosqlite:////nowhere/at/all.sqlite3")
        service._store = Store(engine, bound_seconds=1.0)
    else:
        service._passwords = BusyPool(1, 1)
    try:
        yield StoreError if why == "store" else HashQueueFull
    finally:
        service._store, service._passwords = store, passwords


@pytest.mark.parametrize("why", ["store", "hash pool"])
async def test_an_outage_of_ours_is_not_charged_to_the_person(service: AuthService, ann: SignedIn, why: str) -> None:
    """As often as somebody tries meanwhile: the answer stays "not now", and afterwards the password is right."""
    stranger = "198.51.100.1"
    async with out_of_order(service, why) as error:
        for _ in range(12):
            with pytest.raises(error):
                await service.login(stranger, EMAIL, PASSWORD)
            with pytest.raises(error):
                await service.register(stranger, "bob@example.com", PASSWORD)
            if why == "store":
                with pytest.raises(error):
                    await service.login_with_code(stranger, "code")
    assert (await service.login(stranger, EMAIL, PASSWORD)).user == ann.user
    assert (await service.login(HOME, EMAIL, PASSWORD)).user == ann.user


async def test_an_outage_gives_back_no_more_than_it_took(service: AuthService, ann: SignedIn) -> None:
    stranger = "198.51.100.1"
    for attempt in range(2):
        with pytest.raises(Refused):
            await service.login(stranger, f"nobody{attempt}@example.com", "wrong password")
    async with out_of_order(service, "store") as error:
        with pytest.raises(error):
            await service.login(stranger, EMAIL, PASSWORD)
    outcomes: list[type[BaseException]] = []
    for attempt in range(4):
        with pytest.raises((Refused, TooManyAttempts)) as caught:
            await service.login(stranger, f"none{attempt}@example.com", "wrong password")
        outcomes.append(caught.type)
    assert outcomes == [Refused] * 3 + [TooManyAttempts]


async def test_who_goes_away_before_the_answer_has_made_an_attempt(service: AuthService, ann: SignedIn) -> None:
    """Otherwise one could guess for free, by hanging up before the guess is counted."""
    stranger = "198.51.100.1"
    for number in range(5):
        attempt = asyncio.create_task(service.login(stranger, f"{number}@example.com", "wrong password"))
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait({attempt})
        assert attempt.cancelled()
    with pytest.raises(TooManyAttempts):
        await service.login(stranger, EMAIL, PASSWORD)


async def test_a_start_without_any_service_credential_is_refused(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of().model_copy(update={"auth": Settings().auth})
    with pytest.raises(ConfigError, match="DOORWARD_AUTH__SERVICE_SECRET"):
        await AuthService.open(settings, issuer="https://auth.test")


async def test_the_first_admin_is_made_once_and_then_left_alone(settings_of: Callable[..., Settings]) -> None:
    for password in ("first password", "second password"):
        settings = settings_of(admin_email="root@example.com", admin_password=password)
        opened = await AuthService.open(settings, issuer="https://auth.test")
        try:
            signed_in = await opened.login(HOME, "root@example.com", "first password")
            assert "admin" in signed_in.user.permissions
        finally:
            await opened.aclose()


async def test_a_first_admin_that_cannot_be_is_a_config_error(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(admin_email="root@example.com", admin_password="short")
    with pytest.raises(ConfigError, match="admin_password"):
        await AuthService.open(settings, issuer="https://auth.test")


async def test_an_old_hash_is_made_anew_at_sign_in(service: AuthService, ann: SignedIn) -> None:
    async def stored(tx: AsyncConnection) -> str:
        return str((await tx.execute(select(schema.users.c.password_hash))).scalar_one())

    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    await service._store.write(_setting_password(ann.user.user_id, weak))
    await service.login(HOME, EMAIL, PASSWORD)
    strong = await service._store.read(stored)
    assert strong != weak
    await service.login(HOME, EMAIL, PASSWORD)
    assert await service._store.read(stored) == strong


async def test_keys_in_memory_outlive_an_emptied_directory(
    service: AuthService, settings_of: Callable[..., Settings]
) -> None:
    before = service.key_set()
    await asyncio.to_thread(remove_keys, settings_of())
    with pytest.raises(StoreError, match="empty"):
        await service._reload_keys()
    assert service.key_set() == before
    assert (await service.register(HOME, EMAIL, PASSWORD)).access_token


async def test_background_work_goes_on_after_failures_and_logs_a_streak_once() -> None:
    stopping, rounds = asyncio.Event(), 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 7:
            stopping.set()
        if rounds not in {4, 7}:
            raise StoreError("not now")

    with structlog.testing.capture_logs() as events:
        await asyncio.wait_for(_repeat(step, 0.001, stopping), 5)
    assert rounds == 7
    assert [event["event"] for event in events] == ["authd.background_failed"] * 2


def remove_keys(settings: Settings) -> None:
    for path in (settings.data_dir / "authd" / "keys").iterdir():
        path.unlink()


def test_nothing_secret_is_in_a_repr() -> None:
    user = User("usr_1", EMAIL, ())
    shown = [SignedIn("s3cret", "s3cret", 600, user), Opened(user, "ses_1", "s3cret"), Account(user, "s3cret")]
    assert "s3cret" not in repr(shown)
    assert EMAIL in repr(shown)
