"""Whose address counts behind proxies."""

from __future__ import annotations

import pytest

from doorward.authd.addresses import client_address, parse_networks

TRUSTED = parse_networks(["10.0.0.0/8", "fd00::/8", "unix"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "1.2.3.4", "203.0.113.5"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", "1.2.3.4", ""),
    ],
)
def test_the_right_most_untrusted_entry(peer: str, forwarded: str | None, address: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == address


def test_nobody_is_trusted_by_default() -> None:
    assert client_address("127.0.0.1", "1.2.3.4", parse_networks(())) == "127.0.0.1"


def test_a_very_long_header_is_cut() -> None:
    assert client_address("10.0.0.1", ",".join(["10.0.0.2"] * 100_000), TRUSTED) == "10.0.0.2"
