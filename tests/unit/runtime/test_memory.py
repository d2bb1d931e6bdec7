"""What the node remembers: read without waiting, written through, and a failing store never turns a no into a yes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from tests.runtime_kit import FakeStore, page, virtual

from doorward.core.limits import Lane
from doorward.core.verdict import Principal
from doorward.errors import StoreError
from doorward.runtime.memory import (
    CONTACT_EVERY_SECONDS,
    KEEP_REVOCATIONS_SECONDS,
    MAX_UNSTORED_ITEMS,
    MAX_UNSTORED_LIFTS,
    RELOAD_SECONDS,
    RENEW_SECONDS,
    RETRIED_BARS,
    UNRENEWED_SECONDS,
    NodeMemory,
)
from doorward.runtime.ports import RevocationItem, StoredBar
from doorward.testing import ManualClock

BAR = bytes(range(32))


async def opened(store: FakeStore, clock: ManualClock | None = None) -> NodeMemory:
    memory = NodeMemory(store, clock or ManualClock())
    await memory.open()
    return memory


@virtual
async def test_a_bar_holds_over_a_restart_until_it_runs_out() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    again = await opened(store, clock)
    assert again.bars.holds(BAR, clock.wall())
    clock.advance(101)
    assert not again.bars.holds(BAR, clock.wall())
    await again.tidy()
    assert store.bars == {}
    assert len(again.bars) == 0


@virtual
async def test_a_lifted_bar_is_gone_from_the_disk_too() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    await memory.lift(BAR)
    assert store.bars == {}
    assert not (await opened(store, clock)).bars.holds(BAR, clock.wall())


@virtual
async def test_the_same_bar_is_written_once_and_no_bar_is_not_lifted() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.bar(BAR, clock.wall() + 100, Lane.UNPROVEN)
    store.bars.clear()
    await memory.bar(BAR, clock.wall() + 100, Lane.UNPROVEN)
    assert store.bars == {}
    store.bars[b"other"] = StoredBar(b"other", 9e9, proven=True)
    await memory.lift(b"other")
    assert b"other" in store.bars


@pytest.mark.parametrize("lane", list(Lane))
def test_an_overflow_holds_over_a_restart(lane: Lane) -> None:
    """The bar there was no room for is not known any more, so degraded admission of its lane is off until it has run out."""

    @virtual
    async def main() -> None:
        store, clock = FakeStore(), ManualClock()
        memory = await opened(store, clock)
        memory.bars.capacity = 1
        await memory.bar(BAR, clock.wall() + 50, lane)
        await memory.bar(bytes(32), clock.wall() + 100, lane)
        assert not memory.bars.complete(lane, clock.wall())
        again = await opened(store, clock)
        other = Lane.PROVEN if lane is Lane.UNPROVEN else Lane.UNPROVEN
        assert not again.bars.complete(lane, clock.wall() + 99)
        assert again.bars.complete(lane, clock.wall() + 100)
        assert again.bars.complete(other, clock.wall())
        assert again.bars.holds(BAR, clock.wall())

    main()


@virtual
async def test_a_failing_store_takes_nothing_back() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    store.error = StoreError("disk full")
    with capture_logs() as logs:
        await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
        assert memory.bars.holds(BAR, clock.wall())
        await memory.lift(BAR)
        assert not memory.bars.holds(BAR, clock.wall())
        await memory.contact()
        assert memory.last_contact == clock.wall()
        await memory.apply(page("1", RevocationItem(jti="j1")), snapshot=True, complete_at=clock.wall())
        assert memory.revocations.is_revoked(Principal("ada", "iss", jti="j1"))
        await memory.tidy()
    assert [each["event"] for each in logs] == [
        "bar not stored; it holds in this process only",
        "bar not removed from the store",
        "last contact not stored",
        "revocations not stored",
        "bar not removed from the store",
        "store not tidied",
    ]


@virtual
async def test_a_bar_that_could_not_be_written_is_written_at_the_next_no() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    store.error = StoreError("locked")
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    store.error = None
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    assert (await opened(store, clock)).bars.holds(BAR, clock.wall())
    store.bars.clear()
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    assert store.bars == {}, "it was written, and is not written again"


@virtual
async def test_tidying_writes_the_bars_that_could_not_be_written_and_removes_the_lifted_ones() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    lifted, relifted, gone = bytes(32), b"r" * 32, b"g" * 32
    await memory.bar(lifted, clock.wall() + 100, Lane.PROVEN)
    store.error = StoreError("locked")
    await memory.lift(lifted)
    await memory.bar(relifted, clock.wall() + 100, Lane.PROVEN)
    await memory.lift(relifted)
    await memory.bar(gone, clock.wall() + 1, Lane.PROVEN)
    await memory.bar(BAR, clock.wall() + 100, Lane.UNPROVEN)
    await memory.tidy()
    assert list(store.bars) == [lifted]
    store.error = None
    clock.advance(2)
    await memory.tidy()
    assert list(store.bars) == [BAR]
    store.bars.clear()
    await memory.tidy()
    assert store.bars == {}, "each of it once"


@virtual
async def test_a_lift_that_could_not_be_written_is_written_at_the_next_yes() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.bar(BAR, clock.wall() + 100, Lane.PROVEN)
    store.error = StoreError("locked")
    await memory.lift(BAR)
    store.error = None
    await memory.lift(BAR)
    assert store.bars == {}


@virtual
async def test_proven_bars_are_made_up_for_first_and_so_many_in_one_go() -> None:
    """Strangers can leave any number of bars unwritten; those that keep somebody out come before them."""
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    store.error = StoreError("locked")
    for number in range(RETRIED_BARS):
        await memory.bar(number.to_bytes(32, "big"), clock.wall() + 100, Lane.UNPROVEN)
    await memory.bar(b"p" * 32, clock.wall() + 100, Lane.PROVEN)
    store.error = None
    await memory.tidy()
    assert next(iter(store.bars)) == b"p" * 32
    assert len(store.bars) == RETRIED_BARS
    await memory.tidy()
    assert len(store.bars) == RETRIED_BARS + 1


@virtual
async def test_lifts_that_wait_for_the_disk_are_bounded() -> None:
    """Past the bound such a bar is there again after a restart: it keeps somebody out, and lets nobody in."""
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    digests = [number.to_bytes(32, "big") for number in range(MAX_UNSTORED_LIFTS + 1)]
    for digest in digests:
        await memory.bar(digest, clock.wall() + 100, Lane.PROVEN)
    store.error = StoreError("locked")
    with capture_logs():
        for digest in digests:
            await memory.lift(digest)
    store.error = None
    for _ in range(MAX_UNSTORED_LIFTS // RETRIED_BARS + 1):
        await memory.tidy()
    assert list(store.bars) == digests[-1:]


@virtual
async def test_a_contact_is_written_every_few_seconds_and_after_a_failure_at_once() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    for _ in range(10):
        await memory.contact()
        clock.advance(CONTACT_EVERY_SECONDS / 5)
    assert store.contacts_written == 2
    assert memory.last_contact == clock.wall() - CONTACT_EVERY_SECONDS / 5
    clock.advance(CONTACT_EVERY_SECONDS)
    store.error = StoreError("disk full")
    await memory.contact()
    store.error = None
    await memory.contact()
    assert store.last_contact == clock.wall()


@virtual
async def test_the_last_contact_outlives_the_process() -> None:
    store, clock = FakeStore(), ManualClock()
    await (await opened(store, clock)).contact()
    assert (await opened(store, clock)).last_contact == clock.wall()


ITEMS = [
    RevocationItem(jti="j1"),
    RevocationItem(session_id="s1"),
    RevocationItem(user_id="ada", not_before_ms=1_000_000),
    RevocationItem(),
]


@pytest.mark.parametrize(
    ("principal", "revoked"),
    [
        (Principal("bob", "iss", jti="j1"), True),
        (Principal("bob", "iss", session_id="s1"), True),
        (Principal("ada", "iss", issued_at=1_000.0), True),
        (Principal("ada", "iss", issued_at=1_000.1), False),
        (Principal("bob", "iss", jti="j2", session_id="s2", issued_at=1.0), False),
    ],
)
def test_items_revoke_what_they_name_over_a_restart_too(principal: Principal, revoked: bool) -> None:
    @virtual
    async def main() -> None:
        store, clock = FakeStore(), ManualClock()
        memory = await opened(store, clock)
        await memory.apply(page("1", *ITEMS), snapshot=True, complete_at=clock.wall())
        assert memory.revocations.is_revoked(principal) is revoked
        assert (await opened(store, clock)).revocations.is_revoked(principal) is revoked

    main()


J1, J2, J3 = (RevocationItem(jti=name) for name in ("j1", "j2", "j3"))


def revoked(memory: NodeMemory, *items: RevocationItem) -> list[bool]:
    return [memory.revocations.is_revoked(Principal("ada", "iss", jti=item.jti)) for item in items]


@virtual
async def test_a_page_that_could_not_be_written_is_written_with_the_next() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1), snapshot=True, complete_at=100.0)
    store.error = StoreError("locked")
    await memory.apply(page("2", J2), snapshot=False, complete_at=200.0)
    assert revoked(memory, J1, J2) == [True, True]
    assert memory.feed_as_of == 200.0, "this process knows all of it"
    assert (store.feed_cursor, store.last_feed) == ("1", 100.0), "a restart now reads on from what is there"
    store.error = None
    await memory.apply(page("3"), snapshot=False, complete_at=300.0)
    again = await opened(store, clock)
    assert revoked(again, J1, J2) == [True, True]
    assert (again.feed_cursor, again.last_feed) == ("3", 300.0)
    store.revocations.clear()
    await memory.apply(page("4", J3), snapshot=False, complete_at=400.0)
    assert list(store.revocations) == [J3], "what is on disk is not written again"


@virtual
async def test_half_a_snapshot_that_could_not_be_written_is_no_gap_either() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1, more=True), snapshot=True, complete_at=None)
    store.error = StoreError("locked")
    await memory.apply(page("2", J2, more=True), snapshot=False, complete_at=None)
    assert store.feed_cursor == "1"
    store.error = None
    await memory.apply(page("3", J3, more=True), snapshot=False, complete_at=None)
    assert (store.feed_cursor, store.last_feed) == ("3", 0.0), "the rest of it is still missing"
    assert revoked(await opened(store, clock), J1, J2, J3) == [True, True, True]


@virtual
async def test_too_much_that_could_not_be_written_is_fetched_again() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1), snapshot=True, complete_at=clock.wall())
    many = [RevocationItem(jti=f"m{number}") for number in range(MAX_UNSTORED_ITEMS)]
    store.error = StoreError("disk full")
    await memory.apply(page("2", J2, *many), snapshot=False, complete_at=clock.wall())
    store.error = None
    await memory.apply(page("3", J3), snapshot=False, complete_at=clock.wall())
    assert (store.feed_cursor, list(store.revocations)) == ("1", [J1]), "nothing past the gap"
    assert revoked(memory, J1, J2, J3) == [True, True, True]
    clock.advance(RELOAD_SECONDS)
    await memory.apply(page("3"), snapshot=False, complete_at=clock.wall())
    assert memory.feed_cursor is None, "a snapshot is asked for"
    assert memory.feed_as_of == clock.wall(), "and this process has lost nothing"
    await memory.apply(page("3", J1, J2, J3), snapshot=True, complete_at=clock.wall())
    assert revoked(await opened(store, clock), J1, J2, J3) == [True, True, True]
    assert (await opened(store, clock)).feed_cursor == "3"


@virtual
async def test_a_revocation_is_kept_as_long_as_the_feed_has_it() -> None:
    """The auth service alone knows how long its tokens live."""
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1, J2), snapshot=True, complete_at=clock.wall())
    for _ in range(20 * 24):
        clock.advance(3_600)
        asks_for_all = memory.feed_cursor is None
        await memory.apply(page("1", *([J1] if asks_for_all else ())), snapshot=asks_for_all, complete_at=clock.wall())
        await memory.tidy()
    assert revoked(memory, J1, J2) == [True, False]
    assert list(store.revocations) == [J1]


@virtual
async def test_without_a_snapshot_that_shows_it_nothing_is_forgotten_until_the_last_bound() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", *ITEMS), snapshot=True, complete_at=clock.wall())
    clock.advance(KEEP_REVOCATIONS_SECONDS - 1)
    await memory.tidy()
    assert len(memory.revocations) == 3
    clock.advance(2)
    await memory.tidy()
    assert len(memory.revocations) == 0
    assert store.revocations == {}


@virtual
async def test_a_snapshot_that_could_not_be_written_forgets_nothing_on_disk() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1), snapshot=True, complete_at=clock.wall())
    clock.advance(UNRENEWED_SECONDS + 1)
    store.error = StoreError("disk full")
    await memory.apply(page("2", J1), snapshot=True, complete_at=clock.wall())
    store.error = None
    await memory.tidy()
    assert revoked(await opened(store, clock), J1) == [True], "the disk has not seen that it was renewed"
    await memory.apply(page("3"), snapshot=False, complete_at=clock.wall())
    await memory.tidy()
    assert revoked(await opened(store, clock), J1) == [True]


@virtual
async def test_of_two_overflows_that_could_not_be_written_the_longer_counts() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    memory.bars.capacity = 0
    store.error = StoreError("disk full")
    for life in (900.0, 300.0):
        await memory.bar(b"1" * 32, clock.wall() + life, Lane.PROVEN)
    store.error = None
    await memory.tidy()
    (bar,) = store.bars.values()
    assert bar.until == clock.wall() + 900.0


@virtual
async def test_what_a_snapshot_lacks_is_kept_for_a_while_all_the_same() -> None:
    """A feed that keeps less than it should, or was restored from a backup, lets nobody in sooner than it did."""
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1), snapshot=True, complete_at=clock.wall())
    for seconds, known in ((UNRENEWED_SECONDS - 1, True), (2, False)):
        clock.advance(seconds)
        await memory.apply(page("1", more=True), snapshot=True, complete_at=None)
        await memory.tidy()
        assert revoked(memory, J1) == [True], "half a snapshot shows nothing"
        await memory.apply(page("2"), snapshot=False, complete_at=clock.wall())
        await memory.tidy()
        assert revoked(memory, J1) == [known]
        assert list(store.revocations) == [J1] * known


@virtual
async def test_the_feed_is_loaded_anew_in_time_over_restarts_too() -> None:
    store, clock = FakeStore(), ManualClock()
    memory = await opened(store, clock)
    await memory.apply(page("1", J1), snapshot=True, complete_at=clock.wall())
    for _ in range(3):
        clock.advance(RENEW_SECONDS / 3)
        memory = await opened(store, clock)
        assert memory.feed_cursor == "1"
        await memory.apply(page("1", more=True), snapshot=False, complete_at=None)
        assert memory.feed_cursor == "1", "what is half there is read to its end first"
        await memory.apply(page("1"), snapshot=False, complete_at=clock.wall())
    assert memory.feed_cursor is None


@virtual
async def test_a_store_that_cannot_be_opened_stops_the_start() -> None:
    with pytest.raises(StoreError):
        await opened(FakeStore(error=StoreError("damaged")))


@virtual
async def test_closing_closes_the_store() -> None:
    store = FakeStore()
    await (await opened(store)).aclose()
    assert store.is_closed


@virtual
async def test_a_feed_calls_its_users_by_its_own_names() -> None:
    """So does the store: a tenant that is called otherwise in the settings forgets no revocation."""
    store = FakeStore()
    item = RevocationItem(user_id="ada", not_before_ms=2_000)
    memory = NodeMemory(store, ManualClock(), tenant="acme")
    await memory.open()
    await memory.apply(page("1", item), snapshot=True, complete_at=1.0)
    assert list(store.revocations) == [item]
    for tenant in ("acme", "renamed"):
        reborn = NodeMemory(store, ManualClock(), tenant=tenant)
        await reborn.open()
        known = Principal(f"{tenant}:ada", "iss", issued_at=1.0, tenant=tenant)
        assert reborn.revocations.is_revoked(known)
        assert not reborn.revocations.is_revoked(replace(known, user_id="ada", tenant=None))
