"""The tables of the chat. Times are wall-clock milliseconds.

`log_*` belong to the event log (sqlite_log.py) and are there only where it is SQLite; the others to the threads (store.py).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

ID_LENGTH = 128

metadata = MetaData()

threads = Table(
    "threads",
    metadata,
    Column("thread_id", String(ID_LENGTH), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("title", Text, nullable=True, doc="NULL until the first question or a rename"),
    Column("title_words", Text, nullable=False, doc="the title as it is searched: case folded"),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("folded_seq", BigInteger, nullable=False, doc="the messages say what the events up to here said"),
    Column("tidied_seq", BigInteger, nullable=False, doc="the log has been tidied up to here"),
    Column("tidied_ms", BigInteger, nullable=False),
    Index("ix_threads_user_id_updated_ms", "user_id", "updated_ms", "thread_id"),
    Index("ix_threads_updated_ms", "updated_ms"),
)

runs = Table(
    "runs",
    metadata,
    Column("thread_id", String(ID_LENGTH), ForeignKey("threads.thread_id", ondelete="CASCADE"), primary_key=True),
    Column("run_id", String(ID_LENGTH), primary_key=True),
    Column("number", Integer, nullable=False, doc="counts the runs of the thread"),
    Column("question", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
    Column("ending", String(32), nullable=True),
    Column("fault", String(32), nullable=True, doc="why the agent gave no answer, where it failed"),
    Index("ix_runs_thread_id_number", "thread_id", "number"),
    Index(
        "ix_runs_active",
        "thread_id",
        unique=True,
        sqlite_where=text("ended_ms IS NULL"),
        postgresql_where=text("ended_ms IS NULL"),
    ),
)

messages = Table(
    "messages",
    metadata,
    Column("thread_id", String(ID_LENGTH), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", String(ID_LENGTH), nullable=False),
    Column("message", Text, nullable=False, doc="AG-UI JSON"),
    Column("words", Text, nullable=False, doc="its text as it is searched: case folded"),
    Column("created_ms", BigInteger, nullable=False),
    ForeignKeyConstraint(["thread_id"], ["threads.thread_id"], ondelete="CASCADE"),
)

log_state = Table(
    "log_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", String(64), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("base", BigInteger, nullable=False, doc="where the numbers of a new thread start"),
    Column("total", BigInteger, nullable=False, doc="events ever appended"),
    Column("fence", BigInteger, nullable=False, doc="the last fencing number given out"),
)

log_threads = Table(
    "log_threads",
    metadata,
    Column("thread_id", String(ID_LENGTH), primary_key=True),
    Column("head", BigInteger, nullable=False, doc="the last number given out"),
    Column("fence", BigInteger, nullable=False, doc="of the newest lease"),
)

log_events = Table(
    "log_events",
    metadata,
    Column("thread_id", String(ID_LENGTH), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("seq_from", BigInteger, nullable=False),
    Column("run_id", String(ID_LENGTH), nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("event", LargeBinary, nullable=False, doc="AG-UI JSON"),
    sqlite_with_rowid=False,
)
