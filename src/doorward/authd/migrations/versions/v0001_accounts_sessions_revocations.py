"""Accounts, sessions with their refresh tokens, service credentials, and the revocation feed."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_accounts()
    _create_sessions()
    _create_feed()


def downgrade() -> None:
    for table in ("revocations", "feed", "services", "one_time_codes", "refresh_tokens", "sessions", "users"):
        op.drop_table(table)


def _create_accounts() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("email", sa.String(320), nullable=False, unique=True),
        sa.Column("password_hash", sa.Text, nullable=True),
        sa.Column("permissions", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("not_before_ms", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "one_time_codes",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id"), nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "services",
        sa.Column("service_id", sa.String(256), primary_key=True),
        sa.Column("secret_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id"), nullable=False, index=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False, index=True),
        sa.Column("revoked_at", sa.Double, nullable=True),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.session_id"), nullable=False, index=True),
        sa.Column("expires_at", sa.Double, nullable=False, index=True),
        sa.Column("used_at", sa.Double, nullable=True),
        sa.Column("successor", sa.LargeBinary(32), nullable=True, index=True),
        sa.Column("salt", sa.LargeBinary(32), nullable=True),
    )


def _create_feed() -> None:
    feed = op.create_table(
        "feed",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(feed, [{"id": 1, "epoch": secrets.token_hex(8), "head": 0, "floor": 0}])
    op.create_table(
        "revocations",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("jti", sa.String(256), nullable=True),
        sa.Column("session_id", sa.String(256), nullable=True),
        sa.Column("user_id", sa.String(256), nullable=True),
        sa.Column("not_before_ms", sa.BigInteger, nullable=True),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("ix_revocations_jti", "revocations", ["jti"])
    op.create_index("ix_revocations_at", "revocations", ["at"])
