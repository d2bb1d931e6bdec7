"""Open connections, found by what a revocation names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from doorward.core.verdict import Principal
from doorward.runtime.ports import RevocationItem
from doorward.runtime.registry import Registry

ADA = Principal("ada", "iss", session_id="s1", jti="j1", issued_at=1_000.0)


@dataclass(eq=False)
class Socket:
    principal: Principal
    good_at: float = 1_000.0
    revoked: int = field(default=0)

    def revoke(self) -> None:
        self.revoked += 1


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize(
    ("item", "hit"),
    [
        (RevocationItem(jti="j1"), True),
        (RevocationItem(session_id="s1"), True),
        (RevocationItem(user_id="ada", not_before_ms=1_000_000), True),
        (RevocationItem(user_id="ada", not_before_ms=999_999), False),
        (RevocationItem(jti="j2"), False),
        (RevocationItem(session_id="j1"), False),
        (RevocationItem(user_id="bob", not_before_ms=9_000_000), False),
    ],
)
def test_closes_what_an_item_is_about(registry: Registry, item: RevocationItem, hit: bool) -> None:
    socket, bystander = Socket(ADA), Socket(Principal("carol", "iss", issued_at=1.0))
    registry.add(socket)
    registry.add(bystander)
    assert registry.revoke([item]) == int(hit)
    assert socket.revoked == int(hit)
    assert bystander.revoked == 0


def test_a_token_without_iat_is_judged_by_when_it_was_let_in(registry: Registry) -> None:
    early, late = (Socket(replace(ADA, issued_at=None), good_at=at) for at in (1_000.0, 2_000.0))
    registry.add(early)
    registry.add(late)
    assert registry.revoke([RevocationItem(user_id="ada", not_before_ms=1_500_000)]) == 1
    assert (early.revoked, late.revoked) == (1, 0)


def test_two_items_about_one_connection_close_it_once(registry: Registry) -> None:
    socket = Socket(ADA)
    registry.add(socket)
    registry.revoke([RevocationItem(jti="j1"), RevocationItem(session_id="s1")])
    assert socket.revoked == 1


def test_what_has_gone_leaves_nothing_behind(registry: Registry) -> None:
    sockets = [Socket(ADA), Socket(ADA), Socket(Principal("bob", "iss"))]
    for socket in sockets:
        registry.add(socket)
    assert len(registry) == 3
    assert set(registry.of_user("ada")) == set(sockets[:2])
    for socket in sockets:
        registry.remove(socket)
        registry.remove(socket)
    assert len(registry) == 0
    assert registry.of_user("ada") == ()
    assert not registry._named


def test_a_refreshed_connection_is_found_by_its_new_token_only(registry: Registry) -> None:
    socket = Socket(ADA)
    registry.add(socket)
    socket.principal = replace(ADA, jti="j2")
    registry.move(socket, ADA)
    assert registry.revoke([RevocationItem(jti="j1")]) == 0
    assert registry.revoke([RevocationItem(jti="j2")]) == 1
    registry.remove(socket)
    assert not registry._named


def test_a_name_of_one_kind_is_not_taken_for_one_of_another_kind(registry: Registry) -> None:
    user, session, token, all_of_them = sockets = [
        Socket(Principal("x", "iss", issued_at=1.0)),
        Socket(Principal("ada", "iss", session_id="x", issued_at=1.0)),
        Socket(Principal("bob", "iss", jti="x", issued_at=1.0)),
        Socket(Principal("eve", "iss", session_id="eve", jti="eve", issued_at=1.0)),
    ]
    for socket in sockets:
        registry.add(socket)
    assert registry.of_user("x") == (user,)
    assert registry.of_user("eve") == (all_of_them,)
    for item, hit in (
        (RevocationItem(user_id="x", not_before_ms=2_000), user),
        (RevocationItem(session_id="x"), session),
        (RevocationItem(jti="x"), token),
        (RevocationItem(jti="eve"), all_of_them),
    ):
        assert registry.revoke([item]) == 1
        assert hit.revoked == 1
        registry.remove(hit)
    assert not registry._named


def test_one_that_has_gone_does_not_come_back_by_moving(registry: Registry) -> None:
    socket = Socket(ADA)
    registry.move(socket, ADA)
    assert len(registry) == 0
    assert registry.revoke([RevocationItem(jti="j1")]) == 0


def test_can_be_walked_while_it_changes(registry: Registry) -> None:
    sockets = [Socket(ADA) for _ in range(3)]
    for socket in sockets:
        registry.add(socket)
    for connection in registry:
        registry.remove(connection)
    assert len(registry) == 0
