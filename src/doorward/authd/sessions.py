"""Sessions and their refresh tokens, as statements inside somebody's transaction."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.authd import accounts, feed, rotation, schema
from doorward.authd.accounts import User, user_of
from doorward.authd.rotation import Outcome, Presented, digest_of, successor_of
from doorward.authd.tokens import next_not_before
from doorward.core.verdict import Principal
from doorward.runtime.ports import RevocationItem

SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Lives:
    """Seconds. `last_token` is the longest that anything made from a refresh token can count."""

    refresh: float
    overlap: float
    access: float

    def ends_at(self, wall_now: float) -> float:
        return wall_now + max(self.refresh, self.access)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session ready to get an access token. `repr` never shows the refresh token."""

    user: User
    session_id: str
    refresh_token: str

    def __repr__(self) -> str:
        return f"Opened(user={self.user!r}, session_id={self.session_id!r}, refresh_token=...)"


async def start(tx: AsyncConnection, user: User, lives: Lives, wall_now: float) -> Opened:
    """A new session of the user."""
    session_id = f"ses_{secrets.token_hex(12)}"
    token = rotation.PREFIX + secrets.token_urlsafe(32)
    await tx.execute(
        insert(schema.sessions).values(
            session_id=session_id, user_id=user.user_id, created_at=wall_now, expires_at=lives.ends_at(wall_now)
        )
    )
    await _add_token(tx, session_id, token, wall_now + lives.refresh)
    return Opened(user, session_id, token)


async def refresh(tx: AsyncConnection, token: str, lives: Lives, wall_now: float) -> Opened | Outcome:
    """Rotate. What is not `Opened` is `INVALID` or `REUSED`; on the latter the session was revoked here."""
    row = await _find(tx, token)
    outcome = rotation.decide(
        await _presented(tx, row) if row is not None else None, wall_now=wall_now, overlap_seconds=lives.overlap
    )
    if row is None or outcome is Outcome.INVALID:
        return Outcome.INVALID
    if outcome is Outcome.REUSED:
        await revoke(tx, row.session_id, wall_now)
        return outcome
    salt = row.salt if outcome is Outcome.REPEAT else await _rotate(tx, row, token, lives, wall_now)
    return Opened(user_of(row), row.session_id, successor_of(token, salt))


async def revoke(tx: AsyncConnection, session_id: str, wall_now: float) -> bool:
    """End the session and tell the feed. False if there is no such session; ending it twice is one revocation."""
    table = schema.sessions
    ended = update(table).where(table.c.session_id == session_id, table.c.revoked_at.is_(None))
    if (await tx.execute(ended.values(revoked_at=wall_now))).rowcount:
        await feed.publish(tx, RevocationItem(session_id=session_id), wall_now)
        return True
    return bool((await tx.execute(select(exists().where(table.c.session_id == session_id)))).scalar_one())


async def revoke_user(tx: AsyncConnection, user_id: str, wall_now: float) -> bool:
    """End all sessions of the user and every token issued so far. False if there is no such user."""
    user = await accounts.get(tx, user_id, lock=True)
    if user is None:
        return False
    not_before_ms = next_not_before(wall_now, user.not_before_ms)
    await accounts.set_not_before(tx, user_id, not_before_ms)
    table = schema.sessions
    await tx.execute(
        update(table).where(table.c.user_id == user_id, table.c.revoked_at.is_(None)).values(revoked_at=wall_now)
    )
    await feed.publish(tx, RevocationItem(user_id=user_id, not_before_ms=not_before_ms), wall_now)
    return True


async def session_of(tx: AsyncConnection, token: str) -> str | None:
    """The session that a refresh token belongs to, used up or not."""
    table = schema.refresh_tokens
    query = select(table.c.session_id).where(table.c.digest == digest_of(token))
    found = (await tx.execute(query)).scalar_one_or_none()
    return str(found) if found is not None else None


async def living_user(tx: AsyncConnection, principal: Principal) -> User | None:
    """The user of a token that holds by signature, as of now; `None` if the token, its session or its user was revoked."""
    revoked = exists().where(schema.revocations.c.jti == principal.jti)
    query = (
        select(schema.users)
        .join(schema.sessions, schema.sessions.c.user_id == schema.users.c.user_id)
        .where(
            schema.sessions.c.session_id == principal.session_id,
            schema.sessions.c.user_id == principal.user_id,
            schema.sessions.c.revoked_at.is_(None),
            ~revoked,
        )
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    user = user_of(row)
    issued_ms = (principal.issued_at or 0.0) * 1000
    return None if user.not_before_ms is not None and issued_ms <= user.not_before_ms else user


async def forget(tx: AsyncConnection, lives: Lives, wall_now: float) -> None:
    """Drop what has expired, and the salts that no overlap needs any more."""
    tokens, sessions = schema.refresh_tokens, schema.sessions
    await tx.execute(
        update(tokens).where(tokens.c.used_at < wall_now - lives.overlap, tokens.c.salt.is_not(None)).values(salt=None)
    )
    await tx.execute(delete(tokens).where(tokens.c.expires_at < wall_now))
    old = select(sessions.c.session_id).where(sessions.c.expires_at < wall_now)
    await tx.execute(delete(tokens).where(tokens.c.session_id.in_(old)))
    await tx.execute(delete(sessions).where(sessions.c.expires_at < wall_now))


async def _find(tx: AsyncConnection, token: str) -> Row[Any] | None:
    tokens, sessions, users = schema.refresh_tokens, schema.sessions, schema.users
    query = (
        select(tokens, sessions.c.revoked_at, users)
        .join(sessions, sessions.c.session_id == tokens.c.session_id)
        .join(users, users.c.user_id == sessions.c.user_id)
        .where(tokens.c.digest == digest_of(token))
        .with_for_update()
    )
    return (await tx.execute(query)).one_or_none()


async def _presented(tx: AsyncConnection, row: Row[Any]) -> Presented:
    successor_used = False
    if row.successor is not None:
        table = schema.refresh_tokens
        query = select(table.c.used_at).where(table.c.digest == row.successor)
        found = (await tx.execute(query)).one_or_none()
        successor_used = found is None or found.used_at is not None
    return Presented(
        expires_at=row.expires_at,
        session_revoked=row.revoked_at is not None,
        used_at=row.used_at,
        successor_used=successor_used,
        derivable=row.salt is not None,
    )


async def _rotate(tx: AsyncConnection, row: Row[Any], token: str, lives: Lives, wall_now: float) -> bytes:
    """Use the token up, make its successor, and erase the salt that made the token itself. Returns the new salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    successor = successor_of(token, salt)
    table = schema.refresh_tokens
    await tx.execute(
        update(table)
        .where(table.c.digest == row.digest)
        .values(used_at=wall_now, successor=digest_of(successor), salt=salt)
    )
    await tx.execute(update(table).where(table.c.successor == row.digest).values(salt=None))
    await _add_token(tx, row.session_id, successor, wall_now + lives.refresh)
    await tx.execute(
        update(schema.sessions)
        .where(schema.sessions.c.session_id == row.session_id)
        .values(expires_at=lives.ends_at(wall_now))
    )
    return salt


async def _add_token(tx: AsyncConnection, session_id: str, token: str, expires_at: float) -> None:
    await tx.execute(
        insert(schema.refresh_tokens).values(digest=digest_of(token), session_id=session_id, expires_at=expires_at)
    )
