"""Ops tokens: made on the host of the door, believed by it without asking anybody, so that they work in an outage.

`dwops1.<claims>.<HMAC-SHA256>`. Whoever may read the key file may look at the ops page; that is the same person who may read the
logs. The token lets its holder read and change nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

import msgspec

from doorward.adapters.private_files import make_private_dir, read_private
from doorward.errors import CredentialError
from doorward.runtime.log import get_logger

PREFIX = "dwops1."
KEY_FILE = "ops.key"
KEY_BYTES = 32
MAX_LIFE_SECONDS = 3_600.0
LEEWAY_SECONDS = 30.0
MAX_TOKEN_BYTES = 512
_DOMAIN = b"doorward ops token\0"

log = get_logger("doorward")


class Claims(msgspec.Struct, frozen=True):
    """Wall-clock seconds. `id` is for the log: it says which token was used, and is no secret."""

    id: str
    issued_at: float
    expires_at: float


def issue(key: bytes, *, now: float, seconds: float) -> tuple[str, Claims]:
    """A new token that lives so long, at most an hour."""
    claims = Claims(secrets.token_hex(4), now, now + min(seconds, MAX_LIFE_SECONDS))
    signed = PREFIX + _encoded(msgspec.json.encode(claims))
    return f"{signed}.{_mac(key, signed)}", claims


def verify(key: bytes, token: str, *, now: float) -> Claims:
    """What the token says, if it is ours and its time has not run out.

    Raises:
        CredentialError: it is not; the text may be shown.
    """
    signed, _, mac = token.rpartition(".")
    if len(token) > MAX_TOKEN_BYTES or not hmac.compare_digest(mac.encode(), _mac(key, signed).encode()):
        raise CredentialError("this ops token is not of this door; make one with `doorward ops-token` on its host")
    try:
        claims = msgspec.json.decode(_decoded(signed.removeprefix(PREFIX)), type=Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise CredentialError("this ops token cannot be read") from None
    if claims.expires_at <= now:
        raise CredentialError("this ops token has run out; make another with `doorward ops-token`")
    if claims.issued_at > now + LEEWAY_SECONDS or claims.expires_at - claims.issued_at > MAX_LIFE_SECONDS:
        raise CredentialError("this ops token claims a time that none can have")
    return claims


def read_key(data_dir: Path) -> bytes:
    """The key that the door of this data directory made.

    Raises:
        FileNotFoundError: no door has run here.
        PermissionError: it cannot be trusted; the text says why and how to mend it.
        OSError: it cannot be read.
    """
    path = data_dir / KEY_FILE
    key = read_private(path, max_bytes=KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise PermissionError(f"{path} is damaged; remove it and restart the door")
    return key


def prepare_key(data_dir: Path) -> bytes | None:
    """The key, made if there is none. Blocks: for the start only. `None`: it cannot be had, and there are no ops tokens."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return read_key(data_dir)
        _make_key(data_dir / KEY_FILE)
        return read_key(data_dir)
    except OSError as error:
        log.warning("ops tokens are off", reason=str(error))
        return None


def _make_key(path: Path) -> None:
    """Complete or not at all; of two processes that start together one is first, and its key holds for both."""
    make_private_dir(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _mac(key: bytes, signed: str) -> str:
    return _encoded(hmac.digest(key, _DOMAIN + signed.encode(), "sha256"))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
