"""What the client raises: four ways in which something did not happen. "No" and "could not ask" share none of them."""

from __future__ import annotations

from doorward.errors import BackendError, CredentialError, DoorwardError


class ChatError(DoorwardError):
    """Base of what the client raises. `code` is a stable word, for programs."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class SignedOut(ChatError, CredentialError):
    """Nobody is signed in any more: sign in again. Never the result of an outage."""

    def __init__(self, message: str = "nobody is signed in", *, code: str = "SIGNED_OUT") -> None:
        super().__init__(code, message)


class Refused(ChatError):
    """The server, or the auth service, said no. `status`: of HTTP, where it went over that."""

    def __init__(
        self, code: str, message: str, *, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(code, message, retry_after_seconds=retry_after_seconds)
        self.status = status


class Unanswered(ChatError, BackendError):
    """Could not ask, or no answer came: nobody knows whether it was done. Keep everything and try again."""


class Ended(ChatError):
    """The connection, or the following of a thread, is over for good, and trying again would change nothing."""
