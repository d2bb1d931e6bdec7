from __future__ import annotations

import pytest

from doorward.core.paths import value_at, words_at

DOCUMENT = {
    "user": {"id": 7, "roles": ["a", "b"], "x.y": {"z": 1}},
    "https://app.example/roles": ["admin"],
    "a.b": "as it stands",
    "a": {"b": "by its path"},
    "list": [{"n": 1}, {"n": 2}],
    "none": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("user.id", 7),
        ("user.roles.1", "b"),
        ("user.roles.2", None),
        ("user.roles.-1", None),
        ("user.x.y.z", 1),
        ("https://app.example/roles", ["admin"]),
        ("a.b", "as it stands"),
        ("list.1.n", 2),
        ("list.99999999999999999999", None),
        ("list.x", None),
        ("none", None),
        ("none.x", None),
        ("user.id.x", None),
        ("", None),
        (".", None),
        ("user.", None),
        ("missing.x", None),
    ],
)
def test_a_value_by_its_path(path: str, value: object) -> None:
    assert value_at(DOCUMENT, path) == value


def test_words() -> None:
    assert words_at({"scope": "a b  c"}, "scope") == {"a", "b", "c"}
    assert words_at({"roles": ["a b", 1, None]}, "roles") == {"a b"}
    assert words_at({"roles": 7}, "roles") == words_at({}, "roles") == frozenset()
