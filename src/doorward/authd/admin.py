"""What an operator does on the host, beside a running service or without one: set up, rotate keys, make sign-in codes and users."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.adapters.worker import Worker
from doorward.authd import accounts
from doorward.authd.accounts import ADMIN, User, normal_email
from doorward.authd.key_files import KeyFiles
from doorward.authd.keys import GRACE_SECONDS, PUBLISH_SECONDS
from doorward.authd.passwords import PasswordPool
from doorward.authd.service import make_user, open_store
from doorward.authd.store import Store, directory
from doorward.config import Settings
from doorward.errors import UsageError
from doorward.runtime.clock import SystemClock

CODE_SECONDS = 900.0
PASSWORD_BYTES = 15


@dataclass(frozen=True, slots=True)
class MadeUser:
    """`password`: the one that was made up here, to be shown once; `None` if it was given or is unchanged."""

    user: User
    created: bool
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Initialised:
    """`service_secret`: to be shown once and set as `auth.service_secret`; `None` if settings or database have one already."""

    admin: MadeUser
    service_id: str
    service_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class NewKey:
    """Wall-clock seconds."""

    kid: str
    signs_from: float


async def init(settings: Settings, email: str, password: str | None = None) -> Initialised:
    """Make the database, the signing key, a first admin and a service credential. Safe to run again.

    Args:
        password: `None`: a new admin gets a random one, which the result holds.

    Raises:
        ConfigError: the settings cannot work.
        UsageError: the address or the password cannot be taken.
        StoreError: the disk or the database did not answer.

    Cancellation: what was made so far stays; run it again.
    """
    normal_email(email)
    clock = SystemClock()
    async with _opened(settings) as (store, worker):
        await _key_files(settings, worker).load(wall_now=clock.wall(), make_first=True)
        permissions = (ADMIN, *settings.authd.new_user_permissions)
        admin = await _ensure(store, email, password, permissions, generate=True)
        service_id = settings.auth.service_id

        async def add_service(tx: AsyncConnection) -> str | None:
            return await accounts.add_service(tx, service_id, wall_now=clock.wall())

        secret = await store.write(add_service) if settings.auth.service_secret is None else None
    return Initialised(admin, service_id, secret)


async def rotate_keys(settings: Settings, *, now: bool = False) -> NewKey:
    """Make a new signing key. A running service publishes it within seconds and signs with it when its time comes.

    Args:
        now: sign at once; a door that has not seen the key yet fetches the key set on the first token that names it.

    Raises:
        StoreError: the disk did not answer.

    Cancellation: the key may have been made.
    """
    worker = Worker("authd-files")
    wait = 0.0 if now else PUBLISH_SECONDS + GRACE_SECONDS
    try:
        key = await _key_files(settings, worker).add(signs_from=SystemClock().wall() + wait)
    finally:
        worker.stop_nowait()
    return NewKey(key.kid, key.signs_from)


async def issue_one_time_code(settings: Settings, email: str, *, life_seconds: float = CODE_SECONDS) -> str:
    """A code that signs this user in once.

    Raises:
        UsageError: there is no such user.
        ConfigError, StoreError: as `init`.

    Cancellation: a code that nobody knows may be left; it expires.
    """
    address = normal_email(email)

    async def work(tx: AsyncConnection) -> str | None:
        account = await accounts.find(tx, address)
        if account is None:
            return None
        return await accounts.add_code(tx, account.user.user_id, expires_at=SystemClock().wall() + life_seconds)

    async with _opened(settings) as (store, _):
        code = await store.write(work)
    if code is None:
        raise UsageError(f"there is no user {address}")
    return code


async def ensure_user(
    settings: Settings,
    email: str,
    password: str | None = None,
    *,
    permissions: Sequence[str] = (),
    generate_password: bool = False,
) -> MadeUser:
    """Make the user, or bring an existing one up to this: the permissions are added, a given password is set.

    Args:
        generate_password: a new user without a given password gets a random one, which the result holds.

    Raises:
        UsageError: the address or the password cannot be taken.
        ConfigError, StoreError: as `init`.

    Cancellation: the user may have been made.
    """
    async with _opened(settings) as (store, _):
        return await _ensure(store, email, password, tuple(permissions), generate=generate_password)


async def _ensure(
    store: Store, email: str, password: str | None, permissions: tuple[str, ...], *, generate: bool
) -> MadeUser:
    address = normal_email(email)

    async def exists(tx: AsyncConnection) -> bool:
        return await accounts.find(tx, address) is not None

    made = None
    if password is None and generate and not await store.read(exists):
        made = secrets.token_urlsafe(PASSWORD_BYTES)
    passwords = PasswordPool(1, 1)
    try:
        user, created = await make_user(store, passwords, address, password or made, permissions, clock=SystemClock())
    finally:
        passwords.close_nowait()
    return MadeUser(user, created, made)


def _key_files(settings: Settings, worker: Worker) -> KeyFiles:
    return KeyFiles(directory(settings) / "keys", worker)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Store, Worker]]:
    store, worker = await open_store(settings)
    try:
        yield store, worker
    finally:
        await store.aclose()
        worker.stop_nowait()
