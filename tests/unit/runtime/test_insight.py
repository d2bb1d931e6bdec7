from __future__ import annotations

import pytest

from doorward.errors import BackendError
from doorward.runtime.insight import in_words


class OfTheirOwn(BackendError):
    """As a validator may raise it."""


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        ("DeadlinePassed: no answer before the deadline", "no answer before the deadline"),
        ("DeadlinePassed: no answer; no fallback: no proof", "no answer; no fallback: no proof"),
        ("OfTheirOwn: the vault is shut", "the vault is shut"),
        ("OfTheirOwn: ", "it failed"),
        (
            "ConnectionLost: http://auth:80: the connection broke (ServerDisconnectedError)",
            "http://auth:80: the connection broke",
        ),
        (
            "ConnectError: http://auth:80: no connection (Connection refused)",
            "http://auth:80: no connection (Connection refused)",
        ),
        (
            "TlsError: https://auth:443: no TLS connection (WRONG_VERSION_NUMBER)",
            "https://auth:443: no TLS connection (WRONG_VERSION_NUMBER)",
        ),
        ("Suspended: by the bank", "Suspended: by the bank"),
        ("too many pending handshakes", "too many pending handshakes"),
        ("", ""),
    ],
)
def test_what_the_log_says_is_told_without_the_names_of_classes(logged: str, told: str) -> None:
    assert in_words(logged) == told
