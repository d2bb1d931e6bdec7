"""The bounds of the chat backend, each with its unit. Nothing here is unbounded (docs/reference/chat-protocol.md)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE_BYTES = 65_536
"""A longer WebSocket message closes the socket with 1009."""

MAX_TEXT_BYTES = 16_384
"""A longer question is refused with `MESSAGE_TOO_LONG`."""


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """Bounds of threads, runs and sockets.

    What is retained of a thread is in `Retention`; the events of an active run are retained whatever it says.
    """

    events_per_run: int = 2_048
    bytes_per_run: int = 262_144
    run_seconds: float = 120.0
    runs_per_user: int = 8
    runs: int = 1_000
    threads_per_user: int = 2_000
    threads: int = 10_000
    """In use at once: followed by a socket, or with a run."""
    idle_threads: int = 1_000
    """Kept in memory although nobody uses them at the moment."""
    history_messages: int = 200
    history_bytes: int = 524_288
    run_ids_per_thread: int = 256
    mailbox_events: int = 64
    abandoned_agents: int = 100
    subscriptions_per_socket: int = 32
    merge_above_messages: int = 128
    queue_messages: int = 256
    queue_bytes: int = 1_048_576
    unsent_bytes: int = 268_435_456
    """Waiting to be sent on all sockets together."""
    merged_bytes: int = 16_384
    stall_seconds: float = 10.0
    """A socket that takes nothing for this long is closed with 1013 and may resume later."""
    close_seconds: float = 1.0
    reap_seconds: float = 1.0
    housekeeping_seconds: float = 5.0
    tidy_after_seconds: float = 60.0
    """A thread that rests for this long has its log tidied."""
    untidied_events: int = 1_024
    """Of ended runs: after so many a thread's log is tidied before its next run, though it never rests."""
    tidy_again_seconds: float = 86_400.0
    tidied_threads: int = 16
    """Of one round."""
