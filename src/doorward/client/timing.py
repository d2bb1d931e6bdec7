"""Every bound of the client, with its name and its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. The defaults are those of `doorward.js`."""

    connect_seconds: float = 5.0
    """From DNS to the door's word that it let us in."""
    command_seconds: float = 10.0
    """A reply to one command."""
    token_seconds: float = 17.0
    """Your `token()`; the session's own needs half of that."""
    run_seconds: float = 30.0
    """How long `start_run` and `cancel_run` are repeated."""
    ping_every_seconds: float = 25.0
    """After so much silence the line is asked whether it is there."""
    pong_seconds: float = 8.0
    """And given up after so much more."""
    backoff_base_seconds: float = 0.5
    backoff_cap_seconds: float = 30.0
    stable_after_seconds: float = 10.0
    """A connection that lasted this long starts the back-off anew."""
    close_seconds: float = 1.0
    """The closing handshake."""
