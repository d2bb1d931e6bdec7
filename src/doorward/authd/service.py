"""What the auth service does, without HTTP: sign in, refresh, revoke, validate. One object per process."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.adapters.worker import Worker
from doorward.authd import accounts, feed, sessions
from doorward.authd.accounts import Account, User, normal_email
from doorward.authd.feed import LOOK_SECONDS, Feed
from doorward.authd.key_files import KeyFiles
from doorward.authd.migrate import migrate
from doorward.authd.passwords import MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARACTERS, HashQueueFull, PasswordPool
from doorward.authd.rotation import Outcome
from doorward.authd.sessions import Lives, Opened
from doorward.authd.store import Store, database_url, directory, make_engine
from doorward.authd.throttle import Buckets, Familiar
from doorward.authd.tokens import Subject, Tokens, Unacceptable, next_issue_time
from doorward.config import Settings
from doorward.core.verdict import Principal
from doorward.errors import ConfigError, LimitError, StoreError, UsageError
from doorward.runtime.clock import SystemClock
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock, RevocationItem

T = TypeVar("T")

log = get_logger("doorward.authd")

KEY_LOOK_SECONDS = 2.0
FORGET_SECONDS = 600.0
STOP_SECONDS = 3.0
HEALTH_SECONDS = 0.4
"""A probe gives up after half a second; an answer later than that helps nobody."""


class Refused(Exception):
    """No. `error` is the word the client acts on."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class TooManyAttempts(LimitError):
    """Slow down; never a lock."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("too many attempts")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a client gets. `repr` never shows the tokens."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User

    def __repr__(self) -> str:
        return f"SignedIn(user={self.user!r}, ...)"


@dataclass(frozen=True, slots=True)
class Validated:
    """A good token, with the user as of now. `expires_at` in wall-clock seconds."""

    user: User
    session_id: str
    expires_at: float


class AuthService:
    """Open it, use it, close it. Every coroutine is bounded by the store's or the hash pool's own bound.

    `StoreError` means that the question could not be asked; it never stands for "no".
    """

    def __init__(self, settings: Settings, *, issuer: str, store: Store, worker: Worker, clock: Clock) -> None:
        own = settings.authd
        self._settings = settings
        self._store = store
        self._worker = worker
        self._clock = clock
        self._lives = Lives(own.refresh_token_seconds, own.refresh_overlap_seconds, own.access_token_seconds)
        self._passwords = PasswordPool(own.hash_workers, own.hash_queue)
        self._by_address = Buckets(own.login_address_per_second, own.login_address_burst)
        self._by_account = Buckets(own.login_account_per_second, own.login_account_burst)
        self._familiar = Familiar()
        self._keys = KeyFiles(directory(settings) / "keys", worker)
        self._key_stamp: object = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.tokens = Tokens(
            issuer=issuer, audiences=settings.auth.audience, life_seconds=settings.authd.access_token_seconds
        )
        self.feed = Feed(store, clock)

    @classmethod
    async def open(cls, settings: Settings, *, issuer: str, clock: Clock | None = None) -> Self:
        """Migrate the database, load the keys, make the first admin, start the background work.

        Raises:
            ConfigError: the settings cannot work; the text says which and how to mend it.
            StoreError: the disk or the database did not answer.

        Cancellation: what was opened is closed.
        """
        clock = clock or SystemClock()
        store, worker = await open_store(settings)
        service = cls(settings, issuer=issuer, store=store, worker=worker, clock=clock)
        try:
            await service._prepare()
        except BaseException:
            await service.aclose()
            raise
        service._start()
        return service

    def drain(self) -> None:
        """Answer all long polls at once. The other requests are short."""
        self.feed.drain()

    async def aclose(self) -> None:
        """Stop the background work and close the store, each within a bound.

        Cancellation: threads that are busy end by themselves.
        """
        self.drain()
        self._stopping.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        self._passwords.close_nowait()
        await self._store.aclose()
        self._worker.stop_nowait()

    async def register(self, address: str, email: str, password: str) -> SignedIn:
        """Make an account and sign it in.

        Raises:
            UsageError: the address or the password cannot be taken.
            Refused: `email_taken`.
            TooManyAttempts, HashQueueFull, StoreError: not now.

        Cancellation: the account may have been made all the same.
        """
        email = normal_email(email)
        check_new_password(password)

        async def work(tx: AsyncConnection) -> Opened | None:
            if await accounts.find(tx, email) is not None:
                return None
            wall_now = self._clock.wall()
            permissions = self._settings.authd.new_user_permissions
            user = await accounts.create(
                tx, email, password_hash=password_hash, permissions=permissions, wall_now=wall_now
            )
            return await sessions.start(tx, user, self._lives, wall_now)

        with self._attempt((self._by_address, address)):
            password_hash = await self._passwords.hash(password)
            opened = await self._store.write(work)
        if opened is None:
            raise Refused("email_taken")
        log.info("authd.registered", user_id=opened.user.user_id, address=address)
        return self._signed_in(opened)

    async def login(self, address: str, email: str, password: str) -> SignedIn:
        """Sign in with a password. Failed attempts are counted by address and by account.

        Raises:
            Refused: `invalid_credentials`, and never why.
            TooManyAttempts, HashQueueFull, StoreError: not now.

        Cancellation: a session nobody holds may be left; it expires.
        """
        try:
            email = normal_email(email)
        except UsageError:
            raise Refused("invalid_credentials") from None
        taken = (self._by_address, address), (self._by_account, self._familiar.bucket_of(email, address))
        with self._attempt(*taken):
            account = await self._checked(email, password)
        if account is None:
            log.info("authd.login_refused", address=address)
            raise Refused("invalid_credentials")
        self._give_back(*taken)
        self._familiar.note(email, address)
        return self._signed_in(await self._open_session(account.user.user_id))

    async def login_with_code(self, address: str, code: str) -> SignedIn:
        """Exchange a one-time sign-in code.

        Raises:
            Refused: `invalid_credentials`.
            TooManyAttempts, StoreError: not now.

        Cancellation: the code may have been used up.
        """
        taken = (self._by_address, address)

        async def work(tx: AsyncConnection) -> Opened | None:
            wall_now = self._clock.wall()
            user = await accounts.redeem_code(tx, code, wall_now=wall_now)
            return await sessions.start(tx, user, self._lives, wall_now) if user is not None else None

        with self._attempt(taken):
            opened = await self._store.write(work)
        if opened is None:
            log.info("authd.login_refused", address=address)
            raise Refused("invalid_credentials")
        self._give_back(taken)
        return self._signed_in(opened)

    async def refresh(self, token: str) -> SignedIn:
        """Exchange a refresh token. The same token gives the same successor again for the overlap, as long as that is unused.

        Raises:
            Refused: `invalid_grant`, the only word that means "signed out".
            StoreError: not now; the token is still good.

        Cancellation: the rotation may have been committed; asking again within the overlap gives its result.
        """

        async def known(tx: AsyncConnection) -> str | None:
            return await sessions.session_of(tx, token)

        async def work(tx: AsyncConnection) -> Opened | Outcome:
            return await sessions.refresh(tx, token, self._lives, self._clock.wall())

        session_id = await self._store.read(known)  # made-up tokens never take the writers' turn
        opened = await self._store.write(work) if session_id is not None else Outcome.INVALID
        if isinstance(opened, Opened):
            return self._signed_in(opened)
        if opened is Outcome.REUSED:
            self.feed.ring()
            log.warning("authd.refresh_reused", session_id=session_id, effect="session revoked")
        raise Refused("invalid_grant")

    async def logout(self, *, refresh_token: str | None = None, session_id: str | None = None) -> None:
        """End the session. A token nobody knows is as good as signed out.

        Raises:
            StoreError: could not; the session may still be open.

        Cancellation: as `StoreError`.
        """

        async def work(tx: AsyncConnection) -> None:
            found = session_id if refresh_token is None else await sessions.session_of(tx, refresh_token)
            if found is not None:
                await sessions.revoke(tx, found, self._clock.wall())

        await self._store.write(work)
        self.feed.ring()

    async def revoke(self, item: RevocationItem) -> bool:
        """Revoke one token, one session, or everything of a user. False if there is no such session or user.

        Raises:
            StoreError: could not; it may have been committed all the same.

        Cancellation: as `StoreError`.
        """

        async def work(tx: AsyncConnection) -> bool:
            wall_now = self._clock.wall()
            if item.session_id is not None:
                return await sessions.revoke(tx, item.session_id, wall_now)
            if item.user_id is not None:
                return await sessions.revoke_user(tx, item.user_id, wall_now)
            await feed.publish(tx, item, wall_now)
            return True

        found = await self._store.write(work)
        self.feed.ring()
        log.info("authd.revoked", session_id=item.session_id, user_id=item.user_id, jti=item.jti, found=found)
        return found

    async def validate(self, token: str, audience: str | None = None) -> Validated | Unacceptable:
        """Is the token good, now, for this audience?

        Always asks the store, even about what is no token of ours: an answer says that the whole path works.

        Raises:
            StoreError: could not tell.

        Cancellation: nothing is left behind.
        """
        read = self.tokens.read(token, wall_now=self._clock.wall(), audience=audience)
        if isinstance(read, Unacceptable):
            await self._store.read(accounts.has_services)
            return read
        principal: Principal = read

        async def work(tx: AsyncConnection) -> User | None:
            return await sessions.living_user(tx, principal)

        user = await self._store.read(work)
        if user is None or principal.session_id is None or principal.expires_at is None:
            return Unacceptable("revoked")
        return Validated(user, principal.session_id, principal.expires_at)

    async def is_service(self, service_id: str, secret: str) -> bool:
        """Does this credential belong to a service that may validate?

        Raises:
            StoreError: could not tell.

        Cancellation: nothing is left behind.
        """
        configured = self._settings.auth.service_secret
        if configured is not None:
            expected = f"{self._settings.auth.service_id}:{configured.get_secret_value()}"
            if hmac.compare_digest(expected.encode(), f"{service_id}:{secret}".encode()):
                return True

        async def work(tx: AsyncConnection) -> bool:
            return await accounts.service_holds(tx, service_id, secret)

        return await self._store.read(work)

    async def check_health(self) -> None:
        """Return if the store answers.

        Raises:
            StoreError: it does not.

        Cancellation: nothing is left behind.
        """
        await self._store.read(accounts.has_services, bound_seconds=HEALTH_SECONDS)

    def key_set(self) -> bytes:
        """The published key set, as JSON."""
        return self.tokens.published(self._clock.wall())

    def take_address(self, address: str) -> None:
        """Count one attempt of this address.

        Raises:
            TooManyAttempts: it has none left.
        """
        self._take(self._by_address, address)

    async def _prepare(self) -> None:
        await self._keys.load(wall_now=self._clock.wall(), make_first=True)
        await self._reload_keys()
        await self._passwords.open()
        own = self._settings.authd
        if own.admin_email is not None:
            password = own.admin_password.get_secret_value() if own.admin_password else None
            await self._make_first_admin(own.admin_email, password)
        if self._settings.auth.service_secret is None and not await self._store.read(accounts.has_services):
            raise ConfigError(
                "auth.service_secret is not set, and the database knows no service: no door could ask anything; "
                "set DOORWARD_AUTH__SERVICE_SECRET, or run: doorward authd init"
            )

    async def _make_first_admin(self, email: str, password: str | None) -> None:
        try:
            _, created = await make_user(
                self._store,
                self._passwords,
                email,
                password,
                (accounts.ADMIN, *self._settings.authd.new_user_permissions),
                clock=self._clock,
                keep_existing=True,
            )
        except UsageError as error:
            raise ConfigError(f"authd.admin_email, authd.admin_password: {error}") from error
        if created:
            log.info("authd.first_admin_made", has_password=password is not None)

    def _start(self) -> None:
        for step, every_seconds in (
            (self.feed.look_for_others, LOOK_SECONDS),
            (self._reload_keys, KEY_LOOK_SECONDS),
            (self._forget, FORGET_SECONDS),
        ):
            work = _repeat(step, every_seconds, self._stopping)
            self._tasks.append(asyncio.create_task(work, name=f"authd {step.__name__}"))

    async def _reload_keys(self) -> None:
        stamp = await self._keys.stamp()  # before the look: a key that comes in between is seen next time
        if stamp == self._key_stamp:
            return
        keys = await self._keys.load(wall_now=self._clock.wall())
        if not keys:
            raise StoreError("the directory of signing keys is empty; the keys in memory stay in use")
        self.tokens.use(keys)
        self._key_stamp = stamp
        log.info("authd.keys_loaded", kids=[key.kid for key in keys])

    async def _forget(self) -> None:
        async def work(tx: AsyncConnection) -> None:
            wall_now = self._clock.wall()
            await sessions.forget(tx, self._lives, wall_now)
            await accounts.forget_codes(tx, wall_now)
            await feed.forget(tx, wall_now)

        await self._store.write(work)
        await self._keys.load(wall_now=self._clock.wall())

    async def _checked(self, email: str, password: str) -> Account | None:
        """The account if the password is right. Takes as long for an account that does not exist."""

        async def find(tx: AsyncConnection) -> Account | None:
            return await accounts.find(tx, email)

        account = await self._store.read(find)
        checked = await self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not checked.matches:
            return None
        if checked.rehash:
            await self._store.write(_setting_password(account.user.user_id, await self._passwords.hash(password)))
        return account

    async def _open_session(self, user_id: str) -> Opened:
        async def work(tx: AsyncConnection) -> Opened | None:
            user = await accounts.get(tx, user_id, lock=True)
            return await sessions.start(tx, user, self._lives, self._clock.wall()) if user is not None else None

        opened = await self._store.write(work)
        if opened is None:
            raise Refused("invalid_credentials")
        return opened

    def _signed_in(self, opened: Opened) -> SignedIn:
        wall_now = self._clock.wall()
        user = opened.user
        subject = Subject(user.user_id, user.email, user.permissions, opened.session_id)
        issued_at = next_issue_time(wall_now, user.not_before_ms)
        access_token = self.tokens.mint(subject, issued_at=issued_at, wall_now=wall_now)
        return SignedIn(access_token, opened.refresh_token, self.tokens.life_seconds, user)

    @contextlib.contextmanager
    def _attempt(self, *taken: tuple[Buckets, str]) -> Iterator[None]:
        """Count an attempt, unless we could not judge it. Who goes away meanwhile has made one, or guessing would be free."""
        for buckets, key in taken:
            self._take(buckets, key)
        try:
            yield
        except (StoreError, HashQueueFull):
            self._give_back(*taken)
            raise

    def _give_back(self, *taken: tuple[Buckets, str]) -> None:
        for buckets, key in taken:
            buckets.give_back(key, self._clock.monotonic())

    def _take(self, buckets: Buckets, key: str) -> None:
        seconds = buckets.take(key, self._clock.monotonic())
        if seconds > 0:
            raise TooManyAttempts(seconds)


async def open_store(settings: Settings) -> tuple[Store, Worker]:
    """The migrated database, and the thread for files beside it.

    Raises:
        ConfigError, StoreError: as `AuthService.open`.

    Cancellation: the thread ends by itself.
    """
    url = database_url(settings)
    worker = Worker("authd-files")
    try:
        await migrate(url, worker, setting="data_dir" if settings.authd.database_url is None else "authd.database_url")
    except BaseException:
        worker.stop_nowait()
        raise
    bound_seconds = settings.authd.store_seconds
    return Store(make_engine(url, bound_seconds=bound_seconds), bound_seconds=bound_seconds), worker


async def make_user(
    store: Store,
    passwords: PasswordPool,
    email: str,
    password: str | None,
    permissions: tuple[str, ...],
    *,
    clock: Clock,
    keep_existing: bool = False,
) -> tuple[User, bool]:
    """The user of this address, made if need be, and whether it was. One that exists gets the permissions and the password too.

    Args:
        password: `None`: a new account signs in by one-time code only; an existing one keeps its password.
        keep_existing: leave an existing account as it is.

    Raises:
        UsageError: the address or the password cannot be taken.
        HashQueueFull, StoreError: not now.

    Cancellation: the change may have been committed.
    """
    email = normal_email(email)
    if password is not None:
        check_new_password(password)
    password_hash = await passwords.hash(password) if password is not None else None

    async def work(tx: AsyncConnection) -> tuple[User, bool]:
        account = await accounts.find(tx, email)
        if account is None:
            user = await accounts.create(
                tx, email, password_hash=password_hash, permissions=permissions, wall_now=clock.wall()
            )
            return user, True
        if keep_existing:
            return account.user, False
        if password_hash is not None:
            await accounts.set_password(tx, account.user.user_id, password_hash)
        return await accounts.add_permissions(tx, account.user, permissions), False

    return await store.write(work)


def check_new_password(password: str) -> None:
    """Raise if this may not become a password.

    Raises:
        UsageError: too short or too long.
    """
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise UsageError(f"a password needs at least {MIN_PASSWORD_CHARACTERS} characters")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise UsageError(f"a password may have at most {MAX_PASSWORD_BYTES} bytes")


def _setting_password(user_id: str, password_hash: str) -> Callable[[AsyncConnection], Awaitable[None]]:
    async def work(tx: AsyncConnection) -> None:
        await accounts.set_password(tx, user_id, password_hash)

    return work


async def _repeat(step: Callable[[], Coroutine[Any, Any, None]], every_seconds: float, stopping: asyncio.Event) -> None:
    """Run the step again and again until told to stop; a failure is logged once per streak and never ends it."""
    failing = False
    while not stopping.is_set():
        try:
            await step()
            failing = False
        except Exception as error:  # noqa: BLE001 - background work must outlive whatever one round met
            if not failing:
                log.warning("authd.background_failed", step=step.__name__, error=str(error))
            failing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_seconds):
                await stopping.wait()
