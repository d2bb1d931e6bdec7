from __future__ import annotations

import json

import pytest
from ag_ui.core import AssistantMessage, UserMessage

from doorward.chat import snapshots
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.snapshots import Snapshots
from doorward.chat.threads import Thread
from doorward.chat.transcript import Message


@pytest.fixture
def made() -> Snapshots:
    return Snapshots(MemoryEventLog(wall=lambda: 1.0), wall=lambda: 1.0)


def thread(name: str = "t", *, size: int = 5, up_to: int = 7) -> Thread:
    said: list[Message] = [UserMessage(id="q", content="?"), AssistantMessage(id="a", content="x" * size)]
    return Thread(name, "alice", messages=said, folded_seq=up_to)


def test_says_what_the_thread_said_and_where_it_stands(made: Snapshots) -> None:
    content = json.loads(made.of(thread()))
    assert (content["thread_id"], content["after_seq"], content["synthetic"], content["ts"]) == ("t", 7, True, 1000)
    assert [message["content"] for message in content["event"]["messages"]] == ["?", "xxxxx"]


def test_tabs_that_begin_at_the_same_place_share_one_text(made: Snapshots) -> None:
    one = thread()
    assert made.of(one) is made.of(one)
    assert made.of(thread()) is not made.of(one), "another thread of the same name is another one"


def test_a_run_that_has_ended_makes_another_one(made: Snapshots) -> None:
    one = thread()
    before = made.of(one)
    one.messages.append(AssistantMessage(id="b", content="more"))
    one.folded_seq = 9
    after = made.of(one)
    assert json.loads(after)["after_seq"] == 9
    assert after != before
    assert made.bytes == len(after)


def test_the_oldest_go_when_they_are_too_many_or_too_long(made: Snapshots) -> None:
    size = snapshots.KEPT_BYTES // 4
    long = [thread(f"t{number}", size=size) for number in range(6)]
    texts = [made.of(one) for one in long]
    assert made.bytes <= snapshots.KEPT_BYTES
    assert made.of(long[-1]) is texts[-1]
    assert made.of(long[0]) is not texts[0]
    short = [thread(f"s{number}") for number in range(snapshots.KEPT + 1)]
    first = made.of(short[0])
    for one in short[1:]:
        made.of(one)
    assert made.of(short[0]) is not first
