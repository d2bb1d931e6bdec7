"""Threads with their runs and messages, and the event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(128)


def upgrade() -> None:
    _create_threads()
    _create_runs()
    _create_log()


def downgrade() -> None:
    for table in ("log_events", "log_threads", "log_state", "messages", "runs", "threads"):
        op.drop_table(table)


def _create_threads() -> None:
    op.create_table(
        "threads",
        sa.Column("thread_id", NAME, primary_key=True),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("title", sa.Text, nullable=True),
        sa.Column("title_words", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("folded_seq", sa.BigInteger, nullable=False),
        sa.Column("tidied_seq", sa.BigInteger, nullable=False),
        sa.Column("tidied_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_threads_user_id_updated_ms", "threads", ["user_id", "updated_ms", "thread_id"])
    op.create_index("ix_threads_updated_ms", "threads", ["updated_ms"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("thread_id", NAME, sa.ForeignKey("threads.thread_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("run_id", NAME, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger, nullable=True),
        sa.Column("ending", sa.String(32), nullable=True),
    )
    op.create_index("ix_runs_thread_id_number", "runs", ["thread_id", "number"])
    active = sa.text("ended_ms IS NULL")
    op.create_index("ix_runs_active", "runs", ["thread_id"], unique=True, sqlite_where=active, postgresql_where=active)
    op.create_table(
        "messages",
        sa.Column("thread_id", NAME, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["thread_id"], ["threads.thread_id"], ondelete="CASCADE"),
    )


def _create_log() -> None:
    op.create_table(
        "log_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("base", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "log_threads",
        sa.Column("thread_id", NAME, primary_key=True),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "log_events",
        sa.Column("thread_id", NAME, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq_from", sa.BigInteger, nullable=False),
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
