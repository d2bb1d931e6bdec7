"""The file that tells Prometheus which doors are up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doorward.drill.targets import Targets
from doorward.errors import UsageError


def test_it_lists_the_doors_that_are_up_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    targets = Targets(file)
    assert json.loads(file.read_text()) == []

    targets.up("doorward", "silence", "ws://127.0.0.1:1001/ws")
    targets.up("post-mortem", "beside/silence", "ws://127.0.0.1:1002/ws")
    targets.up("doorward", "silence", "ws://127.0.0.1:1003/ws")  # restarted
    assert json.loads(file.read_text()) == [
        {"targets": ["127.0.0.1:1003"], "labels": {"job": "doorward", "scenario": "silence"}},
        {"targets": ["127.0.0.1:1002"], "labels": {"job": "post-mortem", "scenario": "beside/silence"}},
    ]

    targets.down("doorward", "silence")
    targets.down("doorward", "never-up")
    assert [group["labels"]["job"] for group in json.loads(file.read_text())] == ["post-mortem"]
    assert [each.name for each in tmp_path.iterdir()] == ["targets.json"], "nothing is left beside it"


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "no-such-folder" / "targets.json"
    with pytest.raises(UsageError, match=r"no-such-folder/targets\.json: No such file"):
        Targets(file)
