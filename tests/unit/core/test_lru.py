from __future__ import annotations

from doorward.core.lru import Lru


def test_the_least_recently_used_goes_first() -> None:
    lru: Lru[str, int] = Lru(2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)

    assert (lru.get("a"), lru.get("b"), lru.get("c")) == (1, None, 3)
    assert len(lru) == 2


def test_to_put_again_is_to_use() -> None:
    lru: Lru[str, int] = Lru(2)
    for key, value in [("a", 1), ("b", 2), ("a", 10), ("c", 3)]:
        lru.put(key, value)

    assert (lru.get("a"), lru.get("b")) == (10, None)


def test_what_is_dropped_is_gone_and_may_be_dropped_twice() -> None:
    lru: Lru[str, int] = Lru(2)
    lru.put("a", 1)
    lru.drop("a")
    lru.drop("a")

    assert lru.get("a") is None
    assert len(lru) == 0
