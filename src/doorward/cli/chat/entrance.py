"""Who goes in: a token from the settings, a sign-in link, the session of last time, or an address and a password."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from doorward.cli.chat.keyboard import Sort
from doorward.cli.chat.waiting import Leaving
from doorward.client import Ended, FileStore, FixedToken, Refused, Session, SignedOut, State, Unanswered, in_words
from doorward.client.http import Network, base_url
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from doorward.cli.chat.keyboard import Keyboard
    from doorward.client import TokenProvider, User
    from doorward.config import Settings

LINK = "signin"
"""The sign-in link of `doorward up` ends with `#signin=<code>`."""
FILE_NAME = "session-{server}.json"
TRIES = 3
CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says about it. `password` was piped in."""

    address: str
    email: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """The server's, without a sign-in code.

        Raises:
            UsageError: it is none.
        """
        return base_url(self.address)

    @property
    def code(self) -> str | None:
        """The one-time code of a sign-in link."""
        return next(iter(parse_qs(urlsplit(self.address).fragment).get(LINK, [])), None)


class Entrance:
    """Finds out who goes in. `session` is `None` where a token of the settings is all there is.

    Args:
        keyboard: to ask somebody; `None`: nobody is there.
        tell: a word for whoever is.
    """

    def __init__(
        self, wanted: Wanted, settings: Settings, *, keyboard: Keyboard | None, tell: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._settings = settings
        self._keyboard = keyboard
        self._tell = tell
        self.url = wanted.url
        self.tls = _tls(settings.client.ca_file)
        token = settings.client.token
        self._token = FixedToken(token.get_secret_value()) if token is not None else None
        server = re.sub(r"[^A-Za-z0-9.-]+", "-", urlsplit(self.url).netloc)
        self.file = settings.data_dir / FILE_NAME.format(server=server)
        self.session = None if self._token else Session(self.url, store=FileStore(self.file), tls=self.tls)

    @property
    def tokens(self) -> TokenProvider:
        provider = self._token or self.session
        assert provider is not None  # noqa: S101 - one of the two was made
        return provider

    async def enter(self) -> None:
        """Have somebody signed in.

        Raises:
            Leaving: they do not want to.
            Refused, Unanswered: it could not be done.
            UsageError: nobody is there to ask.
            StoreError: the session's file cannot be used; the text names the mend.

        Cancellation: nobody new is signed in.
        """
        session = self.session
        if session is None:
            return
        here = await session.user() if await session.signed_in() else None
        if self._wanted.code is not None and await self._by_link(session, self._wanted.code, here):
            return
        email = self._wanted.email or self._settings.client.email
        if await session.signed_in() and (email is None or here is None or here.email == email.strip().lower()):
            return
        await self._by_password(session, email)

    async def again(self, error: SignedOut) -> None:
        """The session has ended: sign in anew, if somebody is there.

        Raises:
            SignedOut: the error that was given; nobody is.
            As `enter`.

        Cancellation: as `enter`.
        """
        if self.session is None:
            raise SignedOut(
                "the server does not accept the token of the settings (client.token); get another one with `doorward token`",
                code=error.code,
            ) from error
        if self._keyboard is None and self._settings.client.password is None:
            raise SignedOut(f"the session has ended; sign in again: {_how(self.url)}", code=error.code) from error
        await self._by_password(self.session, self._wanted.email or self._settings.client.email)

    async def sign_out(self) -> None:
        """Forget the session here, and end it at the auth service if that can be asked.

        Raises:
            UsageError: there is none.
        """
        if self.session is None:
            raise UsageError("a token of the settings (client.token) was used; there is nobody to sign out")
        if not await self.session.signed_in():
            self._tell(f"Nobody is signed in at {self.url}.")
        elif await self.session.sign_out():
            self._tell(f"Signed out at {self.url}.")
        else:
            self._tell(f"Signed out here. {self.url} could not be told; the session ends there by itself.")

    async def aclose(self) -> None:
        if self.session is not None:
            await self.session.aclose()

    async def _by_link(self, session: Session, code: str, here: User | None) -> bool:
        """A link is good once; whoever types the same command again goes on with the session that it made."""
        try:
            self._welcome(await session.sign_in(code=code))
        except Refused:
            if not await session.signed_in():
                if self._keyboard is None:
                    raise
                self._tell("This sign-in link was used before, or is too old.")
                return False
            self._tell(f"This sign-in link was used before; going on as {_name(here)}.")
        return True

    async def _by_password(self, session: Session, email: str | None) -> None:
        password = self._wanted.password
        if password is None and self._settings.client.password is not None:
            password = self._settings.client.password.get_secret_value()
        if self._keyboard is not None and password is None:
            await self._check_address()
            self._tell(f"Sign in at {self.url}:")
        for left in reversed(range(TRIES)):
            who = email or await self._asked("E-mail: ", Sort.CHOICE)
            secret = password or await self._asked("Password: ", Sort.SECRET)
            try:
                self._welcome(await session.sign_in(email=who, password=secret))
                return
            except Refused as error:
                if self._keyboard is None or password is not None or error.status != 401 or not left:
                    raise
                self._tell(f"{str(error).capitalize()}.")
            except Unanswered as error:
                if self._keyboard is None or password is not None or error.code == "UNREACHABLE" or not left:
                    raise
                self._tell(f"{error}. Try again in a moment.")

    async def _check_address(self) -> None:
        """Before somebody types a password: is there a chat at all?"""
        network = Network(self.url, tls=self.tls)
        deadline = Deadline.after(asyncio.get_running_loop().time(), CHECK_SECONDS)
        try:
            answer = await network.call("GET", "/api/config", deadline=deadline)
        except Unanswered as error:
            mend = "start one with `doorward up`, or write the address behind `doorward chat`"
            raise Unanswered(error.code, f"no chat server answers at {error}; {mend}") from error
        finally:
            await network.aclose()
        if answer.status == 404 or not isinstance(answer.content, dict):
            raise Refused(
                answer.code,
                f"what answers at {self.url} is no chat server; is the address right?",
                status=answer.status,
            )

    async def _asked(self, prompt: str, sort: Sort) -> str:
        if self._keyboard is None:
            raise UsageError(f"nobody is signed in at {self.url}, and there is no terminal to ask; {_how(self.url)}")
        line = await self._keyboard.ask(prompt, sort)
        if not line:
            raise Leaving
        return line.strip() if sort is not Sort.SECRET else line

    def _welcome(self, user: User | None) -> None:
        self._tell(f"Signed in as {_name(user)}. The session is kept in {self.file}; `--sign-out` ends it.")


def explained(error: Ended, state: State) -> Ended:
    """The same, in words that help."""
    return Ended(error.code, in_words(state, wall_now=time.time()) or str(error))


def _how(url: str) -> str:
    return (
        f"run `doorward chat {url}` in a terminal once, or give --email and --password-stdin, or set DOORWARD_CLIENT__EMAIL and "
        "DOORWARD_CLIENT__PASSWORD, or DOORWARD_CLIENT__TOKEN"
    )


def _name(user: User | None) -> str:
    return "somebody" if user is None else user.email or user.user_id


def _tls(ca_file: Path | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"client.ca_file: {ca_file}: {error}") from error
