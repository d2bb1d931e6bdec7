"""What can be played on a door that we did not write: faults of its auth service, clients at fault, and crowds.

Not from outside: faults of TLS and names (they lie on the target's own way), what must survive a restart, and readers that stop
reading (what to ask an unknown app for?).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from itertools import cycle

from doorward.drill.clients import http_address
from doorward.drill.faults import TROUBLES, Reach, Trouble
from doorward.drill.outside_trial import GIVE_UP_FACTOR, Script, Trial, per_second
from doorward.drill.results import Finding, Kind, Outcome, Phase
from doorward.drill.scenarios import Behaviour, Expectations
from doorward.drill.strays import stray

QUICK_FAULTS = frozenset({"silence", "drip", "refused", "secret-refused"})
STREAM_SECONDS = 3.0
SLACK_SECONDS = 0.25
STRAYS = {
    Behaviour.HALF_SENT: ("20 clients send half an upgrade", 20, 1.0),
    Behaviour.SAYS_NOTHING: ("20 clients never send a byte", 20, GIVE_UP_FACTOR),
    Behaviour.BIG_COOKIE: ("a cookie of 9 KB", 5, 1.0),
    Behaviour.MANY_HEADERS: ("200 header lines", 5, 1.0),
}
"""What they do, how many they are, and after how many deadlines each must have been answered somehow, or cut."""

TWO_HUNDRED = {Kind.JWT: 150, Kind.STRANGER: 30, Kind.NO_TOKEN: 20}
SIEGE_PER_SECOND, SIEGE_SECONDS = 100, 5.0
SIEGE_ADDRESSES = [f"127.0.1.{number}" for number in range(1, 101)]
STORM_CLIENTS, STORM_OVER_SECONDS, STORM_WITHIN_SECONDS = 200, 2.0, 45.0
COME_BACK_SECONDS = 1.0
"""Who was not told when comes back after this time."""


def scripts(url: str) -> Sequence[Script]:
    """All that can be played on the door at this URL."""
    able = [trouble for trouble in TROUBLES.values() if not trouble.tls and trouble.dns is None]
    found = [*(_fault(trouble) for trouble in able), *(_stray(behaviour) for behaviour in STRAYS), *_crowds()]
    return found if _is_here(url) else [script for script in found if script.name != "silent-siege"]


def _is_here(url: str) -> bool:
    """On this machine a siege can come from a hundred addresses, as one does; from one it would be our own clients' undoing."""
    host, _ = http_address(url)
    try:
        return sys.platform == "linux" and ip_address(socket.gethostbyname(host)).is_loopback
    except (OSError, ValueError):
        return False


# --- faults of the auth service -------------------------------------------------------------------------------------------


def _fault(trouble: Trouble) -> Script:
    play = partial(_play_fault, trouble=trouble)
    quick = trouble.name in QUICK_FAULTS
    return Script(trouble.name, "outside", trouble.title, play, expectations(trouble), quick)


async def _play_fault(trial: Trial, *, trouble: Trouble) -> None:
    async with trial.struck(trouble):
        await trial.crowd(Phase.FAULT)
        await trial.stream(Phase.FAULT, STREAM_SECONDS)
    await trial.recover()


def expectations(trouble: Trouble | None) -> Expectations:
    """From outside only the class of an answer counts: a good token may have to wait, but it is never called bad."""
    table: dict[tuple[Phase, Kind], frozenset[str]] = {}
    for phase in Phase:
        lasts = phase in {Phase.FAULT, Phase.REPAIR} and trouble is not None and trouble.reach is not Reach.ALWAYS
        turned_away = frozenset({"unavailable:*"}) if lasts else frozenset()
        table[phase, Kind.JWT] = frozenset({"allow:*"}) | turned_away
        table[phase, Kind.STRANGER] = frozenset({"deny:*"}) | turned_away
        table[phase, Kind.NO_TOKEN] = frozenset({"deny:*"}) | turned_away
    return table


# --- clients at fault -----------------------------------------------------------------------------------------------------


def _stray(behaviour: Behaviour) -> Script:
    title, _, _ = STRAYS[behaviour]
    play = partial(_play_strays, behaviour=behaviour)
    quick = behaviour in {Behaviour.HALF_SENT, Behaviour.BIG_COOKIE}
    return Script(behaviour.value, "clients", title, play, expectations(None), quick, heals=False)


async def _play_strays(trial: Trial, *, behaviour: Behaviour) -> None:
    """An unknown door may answer as it likes, but it must; and who behaves is served meanwhile."""
    _, number, deadlines = STRAYS[behaviour]
    limit = deadlines * trial.door.deadline_seconds + SLACK_SECONDS + trial.null_seconds
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(stray(trial.door.url, behaviour, patience_seconds=limit + SLACK_SECONDS))
            for _ in range(number)
        ]
        await trial.stream(Phase.HEALTHY, STREAM_SECONDS)
    strays = [task.result() for task in tasks]
    ended = sum(each.end is not None and each.seconds <= limit for each in strays)
    slowest = max(each.seconds for each in strays)
    text = f"{ended} of {number} were answered or cut within {limit:.2f} s; the slowest took {slowest:.2f} s"
    trial.findings.append(Finding(f"stray: {behaviour}", ended == number, text, round(slowest, 3), round(limit, 3)))


# --- crowds ---------------------------------------------------------------------------------------------------------------


def _crowds() -> Sequence[Script]:
    return [
        Script(
            "two-hundred-at-once",
            "crowds",
            "200 handshakes at once against silence",
            _play_two_hundred,
            expectations(TROUBLES["silence"]),
            largest=sum(TWO_HUNDRED.values()),
        ),
        Script(
            "silent-siege",
            "crowds",
            f"{SIEGE_PER_SECOND} silent connections a second from {len(SIEGE_ADDRESSES)} addresses, while honest clients come",
            _play_siege,
            expectations(None),
            heals=False,
        ),
        Script(
            "reconnect-storm",
            "crowds",
            f"{STORM_CLIENTS} clients come in an outage, and come back until they are in",
            _play_storm,
            expectations(TROUBLES["refused"]),
            largest=STORM_CLIENTS,
        ),
    ]


async def _play_two_hundred(trial: Trial) -> None:
    async with trial.struck(TROUBLES["silence"]):
        await trial.crowd(Phase.FAULT, TWO_HUNDRED)
    await trial.recover()


async def _play_siege(trial: Trial) -> None:
    silent: list[asyncio.BaseTransport] = []
    besieging = asyncio.create_task(_besiege(trial.door.url, silent))
    try:
        await trial.stream(Phase.HEALTHY, SIEGE_SECONDS)
    finally:
        besieging.cancel()
        await asyncio.wait({besieging})
        for transport in silent:
            transport.close()


async def _besiege(url: str, silent: list[asyncio.BaseTransport]) -> None:
    loop = asyncio.get_running_loop()
    host, port = http_address(url)
    for address in cycle(SIEGE_ADDRESSES):
        with contextlib.suppress(OSError):
            transport, _ = await loop.create_connection(asyncio.Protocol, host, port, local_addr=(address, 0))
            silent.append(transport)
        await asyncio.sleep(1 / SIEGE_PER_SECOND)


async def _play_storm(trial: Trial) -> None:
    """All must be back in the end; how an unknown door spreads them is shown, not judged."""
    loop = asyncio.get_running_loop()
    back: list[float] = []
    phase = Phase.FAULT

    async def client(number: int) -> None:
        await asyncio.sleep(STORM_OVER_SECONDS * number / STORM_CLIENTS)
        while (sample := await trial.ask(phase, Kind.JWT)).outcome is not Outcome.ALLOW:
            await asyncio.sleep((sample.retry_after_ms or COME_BACK_SECONDS * 1000) / 1000)
            back.append(loop.time())

    async with trial.struck(TROUBLES["refused"]):
        clients = [asyncio.create_task(client(number)) for number in range(STORM_CLIENTS)]
        await asyncio.sleep(STORM_OVER_SECONDS + trial.door.deadline_seconds)
    phase = Phase.REPAIR
    repaired = loop.time()
    healing = asyncio.create_task(trial.recover())
    done, late = await asyncio.wait(clients, timeout=STORM_WITHIN_SECONDS)
    within = loop.time() - repaired
    for task in late:
        task.cancel()
    await healing
    trial.curve = per_second(back, repaired)
    text = f"{len(done)} of {STORM_CLIENTS} clients were in {within:.1f} s after the repair"
    trial.findings.append(
        Finding("storm: all back", not late, text, round(within, 2), STORM_WITHIN_SECONDS),
    )
