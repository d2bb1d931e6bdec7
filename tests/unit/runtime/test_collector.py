from __future__ import annotations

import gc

from doorward import rare_collections


def test_a_running_server_collects_rarely_and_leaves_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    frozen = gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
