"""A proxy that nobody told us to trust is noticed once, and only when it forwards for many."""

from __future__ import annotations

import pytest

from doorward.core.proxies import ENOUGH, KEPT_ADDRESSES, UntrustedProxies, is_private


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.1.2.3", True),
        ("127.0.0.1", True),
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("2606:4700::1", False),
        ("unknown", False),
    ],
)
def test_whose_address_it_can_be(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_it_is_told_once_and_when_it_is_enough() -> None:
    proxies = UntrustedProxies()
    told = [proxies.noted("10.0.0.5") for _ in range(ENOUGH * 3)]
    assert [at for at, each in enumerate(told, 1) if each] == [ENOUGH]


def test_each_address_counts_for_itself() -> None:
    proxies = UntrustedProxies()
    assert not any(proxies.noted(f"10.0.0.{number % 2}") for number in range((ENOUGH - 1) * 2))
    assert proxies.noted("10.0.0.0")
    assert proxies.noted("10.0.0.1")


def test_no_more_addresses_are_kept_than_the_bound() -> None:
    proxies = UntrustedProxies()
    for number in range(KEPT_ADDRESSES * 2):
        proxies.noted(f"10.0.{number // 200}.{number % 200}")
    assert len(proxies._forwarded) == KEPT_ADDRESSES
