"""The tables. Times are wall-clock seconds, unless a name says milliseconds; secrets are here only as digests."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("password_hash", Text, nullable=True, doc="argon2id; NULL: signs in by one-time code only"),
    Column("permissions", Text, nullable=False, doc="JSON list"),
    Column("created_at", Double, nullable=False),
    Column("not_before_ms", BigInteger, nullable=True, doc="tokens issued up to here are revoked"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("user_id", String(64), ForeignKey("users.user_id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True, doc="when its last token ends"),
    Column("revoked_at", Double, nullable=True),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True, doc="SHA-256 of the token"),
    Column("session_id", String(64), ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("expires_at", Double, nullable=False, index=True),
    Column("used_at", Double, nullable=True),
    Column("successor", LargeBinary(32), nullable=True, index=True, doc="digest of the token that took its place"),
    Column("salt", LargeBinary(32), nullable=True, doc="with the token itself it yields the successor; soon erased"),
)

one_time_codes = Table(
    "one_time_codes",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("user_id", String(64), ForeignKey("users.user_id"), nullable=False),
    Column("expires_at", Double, nullable=False),
)

services = Table(
    "services",
    metadata,
    Column("service_id", String(256), primary_key=True),
    Column("secret_digest", LargeBinary(32), nullable=False),
    Column("created_at", Double, nullable=False),
)

feed = Table(
    "feed",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", String(64), nullable=False),
    Column("head", BigInteger, nullable=False, doc="number of the newest revocation"),
    Column("floor", BigInteger, nullable=False, doc="number of the newest one that was forgotten"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("jti", String(256), nullable=True),
    Column("session_id", String(256), nullable=True),
    Column("user_id", String(256), nullable=True),
    Column("not_before_ms", BigInteger, nullable=True),
    Column("at", Double, nullable=False),
    Index("ix_revocations_jti", "jti"),
    Index("ix_revocations_at", "at"),
)
