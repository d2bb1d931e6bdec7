"""Every exception Doorward raises. The class shows whose fault it is.

`ConfigError` the operator's, at start-up only · `UsageError` the caller's · `CredentialError` the peer's (becomes `Deny`) ·
`BackendError` nobody's here (becomes `Unavailable`) · `LimitError` our own limit.
"""

from __future__ import annotations


class DoorwardError(Exception):
    """Base of everything Doorward raises on purpose."""


class ConfigError(DoorwardError):
    """The settings cannot work. At start only; names the key and where it was read. Exit code 2."""


class UsageError(DoorwardError):
    """The calling code, or command, broke a contract of ours. Exit code 2."""


class CredentialError(DoorwardError):
    """A credential is malformed or not acceptable; the text never holds it. Becomes `Deny`."""


class LimitError(DoorwardError):
    """One of our own limits was reached."""


class BackendError(DoorwardError):
    """The auth service, or a store, could not be asked. Says nothing about a token: becomes `Unavailable`, never `Deny`."""


class ResolveError(BackendError):
    """DNS gave no address."""


class ConnectError(BackendError):
    """TCP was refused, reset or unreachable while connecting."""


class ConnectTimeout(BackendError):
    """No TCP connection in time."""


class TlsError(BackendError):
    """The TLS handshake failed: certificate, name or protocol."""


class PoolTimeout(BackendError):
    """No connection of the pool was free in time. The limits make this impossible; seeing it is a bug."""


class WriteTimeout(BackendError):
    """The request could not be written in time."""


class ReadTimeout(BackendError):
    """No complete answer in time."""


class ConnectionLost(BackendError):
    """The connection broke after it was made; one that was kept alive may have been closing already."""


class BadStatus(BackendError):
    """The service failed: a 5xx, or anything but a 200 of its health page."""

    def __init__(self, status: int, message: str | None = None) -> None:
        super().__init__(message or f"the auth service answered {status}")
        self.status = status


class Throttled(BackendError):
    """The auth service asked us to slow down: 429, or 503 with Retry-After."""

    def __init__(self, status: int, retry_after_seconds: float) -> None:
        super().__init__(f"the auth service answered {status} and asked to wait {retry_after_seconds:g} s")
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class BadAnswer(BackendError):
    """The answer is not the contract: not JSON, wrong types, missing fields, too large, a status that is not in it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class IdentityMismatch(BadAnswer):
    """The answer speaks of another user or session than the token does. Not even a proven token gets in on it."""


class ServiceCredentialRefused(BackendError):
    """The auth service refused our own service credential (401 or 403). A configuration fault, never about the user's token."""


class DeadlinePassed(BackendError):
    """We stopped waiting: the deadline of the decision came first."""


class StoreError(BackendError):
    """The node's own store failed or did not answer in time. At start it stops the start."""
