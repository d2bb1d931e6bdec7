"""Who is signed in: sign-in, refresh with rotation, sign-out, over a store that several programs may share."""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec

from doorward.client.errors import Refused, SignedOut, Unanswered
from doorward.client.http import Answer, Network
from doorward.client.stores import MemoryStore, TokenStore
from doorward.client.tokens import Token, Tokens, User
from doorward.core.deadline import Deadline
from doorward.errors import StoreError, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

SIGN_IN_PATH = "/auth/login"
REFRESH_PATH = "/auth/refresh"
SIGN_OUT_PATH = "/auth/logout"


class _Granted(msgspec.Struct):
    """What the auth service answers to a sign-in and a refresh."""

    access_token: str
    refresh_token: Annotated[str, msgspec.Meta(min_length=1)]
    expires_in: float = 60.0
    user: User | None = None


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class _Unsaved:
    """Tokens that the store has not taken yet. Those of a refresh may replace only what the refresh began with."""

    tokens: Tokens
    instead_of: tuple[str, str] | None = None
    """Refresh tokens: the one that was stored, and the one that was sent. `None`, at a sign-in: any."""

    def may_replace(self, held: Tokens | None) -> bool:
        return self.instead_of is None or (held is not None and held.refresh_token in self.instead_of)


class Session:
    """A `TokenProvider` on the auth service that stands behind the chat server's `/auth/`.

    One refresh at a time, and nobody owns it: who waits may leave. The refresh token is dropped on an explicit `invalid_grant`
    and on nothing else: an error or a time-out keeps it. Before it refreshes, and before it believes that it is signed out, it
    looks whether another program has put newer tokens into the store. The answer to a refresh counts only if nobody has signed in
    or out meanwhile, and no other program has saved newer tokens.

    Args:
        url: of the chat server.
        call_seconds: one call to the auth service.
        leeway_seconds: a token with less life than this is not handed out.
        tls: what to trust; default: the system's certificates.
        wall: wall-clock seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        store: TokenStore | None = None,
        call_seconds: float = 8.0,
        leeway_seconds: float = 5.0,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._network = Network(url, tls=tls)
        self._store = store or MemoryStore()
        self._call_seconds = call_seconds
        self._leeway_seconds = leeway_seconds
        self._wall = wall
        self._unsaved: _Unsaved | None = None
        self._signings = 0
        self._flight: asyncio.Task[Token] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def sign_in(
        self, *, email: str | None = None, password: str | None = None, code: str | None = None
    ) -> User | None:
        """Sign in with an e-mail address and a password, or with a one-time code. Returns who it is.

        Raises:
            Refused: the auth service does not accept these.
            Unanswered: it could not be asked, or asks to wait.
            StoreError: signed in, but the tokens cannot be kept.

        Cancellation: a session that nobody uses may be left on the server.
        """
        body = {"email": email, "password": password} if code is None else {"one_time_code": code}
        answer = await self._post(SIGN_IN_PATH, body)
        if answer.status >= 500 or answer.status == 429:
            raise Unanswered(answer.code, answer.words, retry_after_seconds=answer.retry_after_seconds)
        if answer.status not in {200, 201}:
            raise Refused(answer.code, _why_not(answer, by_code=code is not None), status=answer.status)
        unsaved = _Unsaved(self._read(answer))
        self._sign(unsaved)
        await self._save(unsaved)
        return unsaved.tokens.user

    async def sign_out(self) -> bool:
        """Forget the tokens, then tell the auth service. Returns whether it heard.

        Raises:
            StoreError: the tokens are still there.

        Cancellation: the tokens are forgotten; the auth service may not have heard.
        """
        tokens = await self._load()
        self._sign(None)
        await self._store.clear()
        if tokens is None:
            return True
        try:
            answer = await self._post(SIGN_OUT_PATH, {"refresh_token": tokens.refresh_token})
        except Unanswered:
            return False
        return answer.status < 300

    async def signed_in(self) -> bool:
        """Whether there is a session to go on with, as far as this side knows; nobody is asked.

        Raises:
            StoreError: it cannot be told.
        """
        return await self._load() is not None

    async def user(self) -> User | None:
        """Who is signed in, as far as this side knows; nobody is asked.

        Raises:
            StoreError: it cannot be told.
        """
        tokens = await self._load()
        return None if tokens is None else tokens.user

    async def token(self, *, stale: str | None = None) -> Token:
        """A token that is good for a while, and not `stale`: the one at hand, else by a refresh.

        Raises:
            SignedOut: nobody is signed in, or the auth service said `invalid_grant`.
            Unanswered: it could not be asked. The tokens are kept.
            StoreError: what is kept cannot be told.

        Cancellation: a refresh under way goes on, within `call_seconds`: its answer must not be lost.
        """
        tokens = await self._load()
        if tokens is None:
            raise SignedOut
        if self._is_fresh(tokens, stale):
            return _token(tokens)
        if self._flight is None:
            # An empty context: whoever asked first does not own the refresh.
            self._flight = asyncio.create_task(self._refresh(stale), name="refresh", context=contextvars.Context())
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        await asyncio.wait({flight})  # bounded: the store and the call are
        if flight.cancelled():
            raise Unanswered("CLOSED", "the session was closed")
        return flight.result()

    async def aclose(self) -> None:
        """Let a refresh under way come to its end, within its bound, and close the connections.

        Cancellation: the refresh is cut off; its answer may be lost, and with it the session.
        """
        if (flight := self._flight) is not None:
            try:
                await asyncio.wait({flight}, timeout=2 * self._call_seconds)
            finally:
                flight.cancel()
        await self._network.aclose()

    def _landed(self, flight: asyncio.Task[Token]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # read, so that asyncio does not report it where nobody waited

    async def _refresh(self, stale: str | None) -> Token:
        """Cases: another program did it already; signed out; new tokens; somebody was quicker; could not ask."""
        signings = self._signings
        before = await self._load()
        if before is None:
            raise SignedOut
        if self._is_fresh(before, stale):
            return _token(before)
        answer = await self._post(REFRESH_PATH, {"refresh_token": before.refresh_token})
        granted = self._read(answer, user=before.user) if answer.status == 200 else None
        if granted is not None and signings == self._signings:
            self._unsaved = _Unsaved(granted, self._instead_of(before))
        held = await self._load()
        if held is None:
            raise SignedOut
        if held == granted:
            return _token(held)
        if signings != self._signings or held.refresh_token != before.refresh_token:
            if self._is_fresh(held, stale):
                return _token(held)
            raise Unanswered("NO_NEW_TOKEN", "somebody has signed in, or another program has refreshed, meanwhile")
        if answer.status == 400 and answer.code == "invalid_grant":
            self._unsaved = None
            with suppress(StoreError):  # what is kept is of no use to anybody
                await self._store.clear()
            raise SignedOut("the session has ended")
        raise Unanswered(
            answer.code, "the auth service did not refresh the session", retry_after_seconds=answer.retry_after_seconds
        )

    def _sign(self, unsaved: _Unsaved | None) -> None:
        """In or out: a refresh under way does not count any more."""
        self._unsaved = unsaved
        self._signings += 1

    def _instead_of(self, before: Tokens) -> tuple[str, str] | None:
        if self._unsaved is None:
            return before.refresh_token, before.refresh_token
        return self._unsaved.instead_of and (self._unsaved.instead_of[0], before.refresh_token)

    async def _load(self) -> Tokens | None:
        """A full disk must not cost the session: then the tokens live as long as this object, and it is tried again here.

        To look and to begin to write is one turn: nobody signs in or out in between.
        """
        unsaved, signings = self._unsaved, self._signings
        if unsaved is None:
            return await self._store.load()
        with suppress(StoreError):
            held = await self._store.load()
            if self._unsaved is unsaved:
                if not unsaved.may_replace(held):
                    self._unsaved = None
                    return held
                await self._save(unsaved)
                if signings == self._signings:
                    return unsaved.tokens
        return unsaved.tokens if self._unsaved is unsaved else await self._load()

    async def _save(self, unsaved: _Unsaved) -> None:
        await self._store.save(unsaved.tokens)
        if self._unsaved is unsaved:
            self._unsaved = None

    def _is_fresh(self, tokens: Tokens, stale: str | None) -> bool:
        return tokens.access_token != stale and tokens.expires_at - self._leeway_seconds > self._wall()

    def _read(self, answer: Answer, *, user: User | None = None) -> Tokens:
        try:
            granted = msgspec.convert(answer.content, _Granted)
            Token(granted.access_token)
        except (msgspec.ValidationError, UsageError) as error:
            raise Unanswered("BAD_ANSWER", "the auth service's answer holds no tokens") from error
        expires_at = self._wall() + granted.expires_in
        return Tokens(granted.access_token, granted.refresh_token, expires_at, granted.user or user)

    async def _post(self, path: str, body: dict[str, Any]) -> Answer:
        deadline = Deadline.after(asyncio.get_running_loop().time(), self._call_seconds)
        return await self._network.call("POST", path, body=body, deadline=deadline)


def _token(tokens: Tokens) -> Token:
    return Token(tokens.access_token, tokens.expires_at)


def _why_not(answer: Answer, *, by_code: bool) -> str:
    if answer.status == 404:
        return f"there is no {SIGN_IN_PATH} at this address; is it the address of the chat server?"
    if answer.status != 401:
        return answer.words
    if by_code:
        return "the sign-in link was used before, or is too old; sign in with an e-mail address and a password"
    return "the auth service does not accept this e-mail address and password"
