"""The Python client against `doorward serve` and `doorward authd` as processes: cuts, outages, restarts, revocation."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.chat_checker import Frame, Tab, findings
from tests.chat_product import EMAIL, PASSWORD, ROOT, Paths, Product

from doorward.client import (
    Client,
    Ended,
    Envelope,
    FileStore,
    FixedToken,
    MemoryStore,
    Position,
    Refused,
    Session,
    SignedOut,
    State,
    StateName,
    Subscription,
    Timing,
    Tokens,
)
from doorward.client.threads import Excerpt
from doorward.config import child_environment
from doorward.testing import Fault

BOUND_SECONDS = 40.0
QUICK = Timing(backoff_base_seconds=0.05, backoff_cap_seconds=0.5)
QUESTION = "pace=0.02 | a long answer has more words than this but no other kinds of events"


@asynccontextmanager
async def signed_in(ways: Paths, *, store: MemoryStore | None = None) -> AsyncIterator[Session]:
    async with Session(ways.url, store=store) as session:
        await session.sign_in(email=EMAIL, password=PASSWORD)
        yield session


@asynccontextmanager
async def client_of(
    ways: Paths, session: Session, states: list[State] | None = None, **options: Any
) -> AsyncIterator[Client]:
    on_state = states.append if states is not None else None
    async with (
        asyncio.timeout(3 * BOUND_SECONDS),
        Client(ways.url, session, timing=QUICK, on_state=on_state, **options) as client,
    ):
        yield client


def frame(envelope: Envelope) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(envelope)
    return content


async def read_run(events: Subscription, tab: Tab) -> str:
    """Up to and with the end of the next run; its last event."""
    while True:
        envelope = await anext(events)
        tab.frames.append(frame(envelope))
        if envelope.ends_run:
            return envelope.kind


async def truth_of(ways: Paths, session: Session, tab: Tab, base: int) -> list[dict[str, Any]]:
    """The whole thread, read in one go by somebody who was never cut off."""
    position = tab.position
    assert position is not None
    epoch, last = position
    async with (
        client_of(ways, session) as client,
        client.subscribe(tab.thread_id, after=Position(epoch, base)) as events,
    ):
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1]["seq"] < last:
            frames.append(frame(await anext(events)))
        return frames


async def hold(ways: Paths, session: Session, *tabs: Tab) -> None:
    """Nothing lost, doubled, changed, out of order or foreign. A new thread need not begin at 1: numbers are not used twice."""
    for tab in tabs:
        base = tab.frames[0]["after_seq"]
        truth = [shifted(each, base) for each in await truth_of(ways, session, tab, base)]
        tab = Tab(tab.name, tab.thread_id, [shifted(each, base) for each in tab.frames])
        assert findings([tab], {tab.thread_id: truth}) == []


def shifted(content: Frame, base: int) -> dict[str, Any]:
    places = {key: content[key] - base for key in ("seq_from", "seq", "after_seq") if key in content}
    return {**content, **places}


async def test_cut_at_random_moments_nothing_is_lost_or_doubled(ways: Paths) -> None:
    """Three threads with two runs each, and a line that is cut every few hundred milliseconds."""
    chance = random.Random()
    states: list[State] = []

    async def chat(client: Client, tab: Tab) -> None:
        async with client.subscribe(tab.thread_id) as events:
            for number in range(2):
                run = await client.start_run(tab.thread_id, QUESTION, run_id=f"{tab.thread_id}-{number}")
                assert await read_run(events, tab) == "RUN_FINISHED"
                assert tab.frames[-1]["run_id"] == run.run_id

    async def cut() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.02, 0.4))
            ways.to_serve.fault = Fault.RESET
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            ways.to_serve.fault = Fault.NONE

    async with signed_in(ways) as session:
        tabs = [Tab(f"tab-{number}", f"cut-{number}") for number in range(3)]
        async with client_of(ways, session, states) as client:
            await client.ready()
            cutting = asyncio.create_task(cut())
            await asyncio.gather(*(chat(client, tab) for tab in tabs))
            cutting.cancel()
            await asyncio.wait({cutting})
        ways.to_serve.fault = Fault.NONE
        await hold(ways, session, *tabs)
    assert [state.name for state in states].count(StateName.OPEN) > 3, "it was cut"
    assert not {state.name for state in states} & {StateName.SIGNED_OUT}


async def test_a_run_goes_on_after_kill_9_of_the_server(running: Product, ways: Paths) -> None:
    tab = Tab("tab", "killed")
    async with signed_in(ways) as session, client_of(ways, session) as client, client.subscribe("killed") as events:
        await client.start_run("killed", QUESTION, run_id="first")
        while len(tab.frames) < 12:
            tab.frames.append(frame(await anext(events)))
        running.serve.kill()
        await asyncio.to_thread(running.restart)
        ways.to_serve.lead_to(running.serve.port)
        assert await read_run(events, tab) == "RUN_ERROR"
        assert tab.frames[-1]["event"]["code"] == "interrupted"
        await client.start_run("killed", QUESTION, run_id="second")
        assert await read_run(events, tab) == "RUN_FINISHED"
        await hold(ways, session, tab)


async def test_an_outage_of_the_auth_service_signs_nobody_out(ways: Paths) -> None:
    """The token cannot be renewed, the line breaks, and the answer comes all the same; then all is as before."""
    store, states = MemoryStore(), list[State]()
    async with signed_in(ways, store=store) as session, client_of(ways, session, states) as client:
        await client.ready()
        before = await store.load()
        ways.to_auth.fault = Fault.SILENCE
        ways.to_serve.fault = Fault.RESET
        ways.to_serve.fault = Fault.NONE
        kinds = [envelope.kind async for envelope in client.ask("outage", QUESTION)]
        assert kinds[-1] == "RUN_FINISHED"
        assert client.door is not None
        assert client.door.assurance in {"cached", "local"}
        ways.to_auth.fault = Fault.NONE
        renewed = await _other_than(before, store)
        assert renewed is not None
        assert await session.signed_in()
    assert not {state.name for state in states} & {StateName.SIGNED_OUT}


async def _other_than(before: Tokens | None, store: MemoryStore) -> Tokens | None:
    async with asyncio.timeout(BOUND_SECONDS):
        while (now := await store.load()) == before:  # noqa: ASYNC110 - a file that another program may write
            await asyncio.sleep(0.05)
    return now


async def test_the_token_is_renewed_on_the_open_line(ways: Paths) -> None:
    store, states = MemoryStore(), list[State]()
    async with (
        signed_in(ways, store=store) as session,
        client_of(ways, session, states, carrier="subprotocol") as client,
    ):
        await client.ready()
        first = await _other_than(await store.load(), store)
        assert await _other_than(first, store)
        assert (await client.send({"type": "ping"}))["ok"] is True
    names = [state.name for state in states]
    assert names.count(StateName.CONNECTING) == 1


async def test_who_is_revoked_is_signed_out(ways: Paths) -> None:
    store = MemoryStore()
    async with signed_in(ways, store=store) as session, client_of(ways, session) as client:
        async with client.subscribe("revoked") as events:
            other = MemoryStore()
            tokens = await store.load()
            assert tokens is not None
            await other.save(tokens)
            async with Session(ways.url, store=other) as elsewhere:
                assert await elsewhere.sign_out()
            with pytest.raises(SignedOut):
                async for _ in events:
                    pass
        assert client.state.name is StateName.SIGNED_OUT
        assert await store.load() is None


async def test_two_programs_share_a_session_file(ways: Paths, tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    async with Session(ways.url, store=FileStore(path)) as first, Session(ways.url, store=FileStore(path)) as second:
        await first.sign_in(email=EMAIL, password=PASSWORD)
        async with client_of(ways, first) as one, client_of(ways, second) as another:
            assert (await one.ready()).is_in
            assert (await another.ready()).is_in
            seen: set[str] = set()
            async with asyncio.timeout(BOUND_SECONDS):
                while len(seen) < 4:
                    tokens = await FileStore(path).load()
                    assert tokens is not None
                    seen.add(tokens.refresh_token)
                    await asyncio.sleep(0.1)
            assert one.state.is_in
            assert another.state.is_in


async def test_threads_over_http(ways: Paths) -> None:
    async with signed_in(ways) as session, client_of(ways, session) as client:
        made = await client.threads.create(title="First words")
        assert (await client.threads.get(made.thread_id)).title == "First words"
        assert (await client.threads.rename(made.thread_id, "Other words")).title == "Other words"
        async for _ in client.ask(made.thread_id, "hello there"):
            pass
        messages = (await client.threads.messages(made.thread_id)).items
        assert messages[0].message["role"] == "user"
        assert messages[-1].message["content"] == "hello there "
        assert [(run.ending) for run in (await client.threads.runs(made.thread_id)).items] == ["finished"]
        found = await client.threads.list(search="other", limit=1)
        assert [(thread.thread_id, thread.excerpt) for thread in found.items] == [(made.thread_id, None)]
        said = await client.threads.list(search="THERE")
        assert said.items[0].excerpt == Excerpt("hello ", "there", " ")
        assert made.thread_id in {thread.thread_id async for thread in client.threads.all()}
        await client.threads.delete(made.thread_id)
        with pytest.raises(Refused) as told:
            await client.threads.get(made.thread_id)
        assert (told.value.status, told.value.code) == (404, "NOT_FOUND")
        with pytest.raises(Refused) as told:
            await client.threads.rename(made.thread_id, "")
        assert told.value.status == 400


async def test_a_thread_that_is_deleted_elsewhere_ends(ways: Paths) -> None:
    async with signed_in(ways) as session, client_of(ways, session) as client:
        async with client.subscribe("deleted") as events:
            await client.threads.delete("deleted")
            with pytest.raises(Ended) as told:
                async for _ in events:
                    pass
        assert told.value.code == "DELETED"


async def test_a_run_is_stopped_from_another_client(ways: Paths) -> None:
    tab = Tab("tab", "stopped")
    async with (
        signed_in(ways) as session,
        client_of(ways, session) as one,
        client_of(ways, session) as another,
        one.subscribe("stopped") as events,
    ):
        run = await one.start_run("stopped", QUESTION)
        with pytest.raises(Refused) as told:
            await another.start_run("stopped", QUESTION)
        assert told.value.code == "RUN_ACTIVE"
        assert await another.cancel_run("stopped", run.run_id) is True
        assert await read_run(events, tab) == "RUN_FINISHED"
        assert tab.frames[-1]["event"]["outcome"]["type"] == "cancelled"


async def test_somebody_without_a_good_token_is_told_so(ways: Paths) -> None:
    async with Client(ways.url, FixedToken("no.good.token"), timing=QUICK) as client:
        with pytest.raises(SignedOut) as told:
            await client.ready()
        assert told.value.code in {"TOKEN_INVALID", "TOKEN_REJECTED"}
        with pytest.raises(SignedOut):
            await client.threads.list()


async def test_an_address_without_a_chat_says_so(running: Product) -> None:
    async with Client(f"http://127.0.0.1:{running.authd.port}", FixedToken("a.b.c"), timing=QUICK) as client:
        with pytest.raises(Ended) as told:
            await client.ready()
    assert told.value.code.startswith("HTTP_")


async def test_the_example_asks_and_prints(ways: Paths, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "chat_client.py"), ways.url, "pace=0.01 | hello there",
        cwd=tmp_path,
        env=child_environment({}) | {"CHAT_EMAIL": EMAIL, "CHAT_PASSWORD": PASSWORD},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), BOUND_SECONDS)
    assert (process.returncode, out.decode()) == (0, "hello there \n")
    assert err.decode().splitlines() == ["Connecting.", "(uses listen)", "(uses remember)", "The connection is closed."]
