"""Users, one-time sign-in codes and service credentials, as statements inside somebody's transaction."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.authd import schema
from doorward.authd.rotation import digest_of
from doorward.errors import UsageError

MAX_EMAIL_CHARACTERS = 320
ADMIN = "admin"
"""The permission that may revoke."""

EMAIL_PATTERN = r"[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+"


@dataclass(frozen=True, slots=True)
class User:
    """`not_before_ms`: tokens issued up to then are revoked. `repr` never shows the hash."""

    user_id: str
    email: str
    permissions: tuple[str, ...]
    not_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A user, and what the password is compared with."""

    user: User
    password_hash: str | None

    def __repr__(self) -> str:
        return f"Account(user={self.user!r}, password_hash=...)"


def normal_email(text: str) -> str:
    """One spelling for each address.

    Raises:
        UsageError: this is no e-mail address.
    """
    email = text.strip().lower()
    if len(email) > MAX_EMAIL_CHARACTERS or not re.fullmatch(EMAIL_PATTERN, email):
        raise UsageError("this is not an e-mail address")
    return email


async def find(tx: AsyncConnection, email: str) -> Account | None:
    row = (await tx.execute(select(schema.users).where(schema.users.c.email == email))).one_or_none()
    return Account(user_of(row), row.password_hash) if row is not None else None


async def get(tx: AsyncConnection, user_id: str, *, lock: bool = False) -> User | None:
    """The user; `lock` keeps other transactions from changing it until this one ends."""
    query = select(schema.users).where(schema.users.c.user_id == user_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return user_of(row) if row is not None else None


async def create(
    tx: AsyncConnection, email: str, *, password_hash: str | None, permissions: Sequence[str], wall_now: float
) -> User:
    user = User(f"usr_{secrets.token_hex(12)}", email, _ordered(permissions))
    await tx.execute(
        insert(schema.users).values(
            user_id=user.user_id,
            email=email,
            password_hash=password_hash,
            permissions=json.dumps(user.permissions),
            created_at=wall_now,
        )
    )
    return user


async def set_password(tx: AsyncConnection, user_id: str, password_hash: str) -> None:
    await _change(tx, user_id, password_hash=password_hash)


async def add_permissions(tx: AsyncConnection, user: User, permissions: Sequence[str]) -> User:
    merged = _ordered((*user.permissions, *permissions))
    await _change(tx, user.user_id, permissions=json.dumps(merged))
    return User(user.user_id, user.email, merged, user.not_before_ms)


async def set_not_before(tx: AsyncConnection, user_id: str, not_before_ms: int) -> None:
    await _change(tx, user_id, not_before_ms=not_before_ms)


async def add_code(tx: AsyncConnection, user_id: str, *, expires_at: float) -> str:
    """A fresh one-time sign-in code; only its digest is stored."""
    code = secrets.token_urlsafe(24)
    await tx.execute(
        insert(schema.one_time_codes).values(digest=digest_of(code), user_id=user_id, expires_at=expires_at)
    )
    return code


async def redeem_code(tx: AsyncConnection, code: str, *, wall_now: float) -> User | None:
    """Use a code up. The delete decides who was first."""
    table = schema.one_time_codes
    gone = delete(table).where(table.c.digest == digest_of(code)).returning(table.c.user_id, table.c.expires_at)
    row = (await tx.execute(gone)).one_or_none()
    if row is None or wall_now >= row.expires_at:
        return None
    return await get(tx, row.user_id, lock=True)


async def add_service(tx: AsyncConnection, service_id: str, *, wall_now: float) -> str | None:
    """A fresh secret for a service that has none; `None` if it has one, which is not stored in clear."""
    known = select(schema.services.c.service_id).where(schema.services.c.service_id == service_id)
    if (await tx.execute(known)).one_or_none() is not None:
        return None
    secret = secrets.token_urlsafe(32)
    await tx.execute(
        insert(schema.services).values(service_id=service_id, secret_digest=digest_of(secret), created_at=wall_now)
    )
    return secret


async def service_holds(tx: AsyncConnection, service_id: str, secret: str) -> bool:
    table = schema.services
    query = select(table.c.secret_digest).where(table.c.service_id == service_id)
    stored = (await tx.execute(query)).scalar_one_or_none()
    return stored is not None and hmac.compare_digest(stored, digest_of(secret))


async def has_services(tx: AsyncConnection) -> bool:
    return (await tx.execute(select(schema.services.c.service_id).limit(1))).one_or_none() is not None


async def forget_codes(tx: AsyncConnection, wall_now: float) -> None:
    await tx.execute(delete(schema.one_time_codes).where(schema.one_time_codes.c.expires_at < wall_now))


def user_of(row: Row[Any]) -> User:
    """The user in a row that has the columns of `users`."""
    return User(row.user_id, row.email, tuple(json.loads(row.permissions)), row.not_before_ms)


async def _change(tx: AsyncConnection, user_id: str, **values: Any) -> None:
    await tx.execute(update(schema.users).where(schema.users.c.user_id == user_id).values(**values))


def _ordered(permissions: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(permissions)))
