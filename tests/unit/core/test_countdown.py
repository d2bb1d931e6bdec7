from __future__ import annotations

from doorward.core.countdown import Countdown


def test_the_first_to_start_is_the_first_due() -> None:
    countdown: Countdown[str] = Countdown(2.0)
    countdown.start("a", 0.0)
    countdown.start("b", 1.0)

    assert countdown.next_due() == 2.0
    assert countdown.pop_due(1.999) == []
    assert countdown.pop_due(2.0) == ["a"]
    assert countdown.next_due() == 3.0
    assert countdown.pop_due(10.0) == ["b"]
    assert countdown.next_due() is None


def test_to_start_again_is_to_wait_from_now() -> None:
    countdown: Countdown[str] = Countdown(2.0)
    countdown.start("a", 0.0)
    countdown.start("b", 0.5)
    countdown.start("a", 1.0)

    assert countdown.pop_due(2.6) == ["b"]
    assert countdown.pop_due(3.0) == ["a"]


def test_what_was_stopped_is_never_due() -> None:
    countdown: Countdown[str] = Countdown(2.0)
    countdown.start("a", 0.0)
    countdown.start("b", 0.0)
    countdown.stop("a")
    countdown.stop("a")
    countdown.stop("never there")

    assert len(countdown) == 1
    assert countdown.pop_due(5.0) == ["b"]
    assert len(countdown) == 0
