"""The measurements. Each yields rows: what was measured, the numbers, and whether the goal is met.

A ratio is never taken between two single runs: A B A B ..., a ratio from each pair, and the median of them. What the machine
does besides hits both sides of a pair alike.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import gateways as _gateways
from benchmarks import load, subjects
from benchmarks.machine import CannotMeasure
from benchmarks.subjects import AuthService, Subject
from benchmarks.tokens import Purse

IDLE_CONNECTIONS = 5_000
CALLS_HANDSHAKES = 1_000
CHAT_SOCKETS = 2_000
MAX_PER_SECOND = 4_000
"""Never-seen tokens are minted for so many handshakes a second."""

Started = contextlib.AbstractContextManager[Subject]


@dataclass(frozen=True, slots=True)
class Plan:
    """How thorough. Seconds are those of one run, its warm-up not counted; `timelines` of decisions give the step table."""

    pairs: int = 5
    seconds: float = 5.0
    warm_up: float = 1.0
    timelines: int = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. `met` is `None` where no goal is set; `samples` are the pairs' own values."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    met: bool | None = None
    samples: Sequence[float] = ()
    details: dict[str, object] = field(default_factory=dict)


Say = Callable[[str], None]


def cached_token(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """Handshakes with one token that the door knows already; also where the middleware is put into uvicorn as it comes."""
    header = ["-H", f"Authorization: Bearer {purse.token()}"]
    on_uvicorn = partial(subjects.door, auth, server="uvicorn")
    yield from _ratios(
        "handshakes/s, cached token", 0.85, plan, lambda: subjects.door(auth), header, say, on_uvicorn=on_uvicorn
    )


def browser(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """The same as a browser does it: token in a subprotocol, and a first notice from the door, which the bare app lacks."""
    protocols = f"doorward.v1, base64url.bearer.authorization.doorward.{purse.carried()}"
    header = ["-H", f"Sec-WebSocket-Protocol: {protocols}"]
    yield from _ratios("handshakes/s, cached token, as a browser", None, plan, lambda: subjects.door(auth), header, say)


def local_tokens(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """Handshakes with `verify = local`, each with an ES256 token that nobody has seen before."""
    count = int(MAX_PER_SECOND * (plan.seconds + plan.warm_up))
    say(f"minting {count} tokens")
    headers = ["-F", str(purse.header_lines(count))]
    start = lambda: subjects.door(auth, verify="local")  # noqa: E731 - a name for the argument
    for row in _ratios("handshakes/s, verify=local, never-seen ES256", 0.60, plan, start, headers, say):
        if max(row.details["headers_used"]) > count:  # type: ignore[call-overload]
            raise CannotMeasure(f"{count} tokens were not enough, so some were seen before; raise MAX_PER_SECOND")
        yield row


def idle_memory(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """What an open connection costs: many of them, each with a token of its own, as each has a user of its own.

    First with tokens that the door has seen before, then with new ones: what it remembers of a token comes on top, once.
    """
    files = [["-F", str(purse.header_lines(IDLE_CONNECTIONS))] for _ in range(2)]
    for name, goal, headers in (
        ("extra memory per idle connection", 4.0, files[0]),
        ("the same, and a new token for each", None, files[1]),
    ):
        pairs: list[tuple[float, float]] = []
        for pair in range(plan.pairs):
            bare = _kib_per_connection(subjects.bare, files[0], headers)
            door = _kib_per_connection(lambda: subjects.door(auth), files[0], headers)
            say(f"pair {pair + 1}: bare {bare:.1f} KiB, door {door:.1f} KiB")
            pairs.append((bare, door))
        yield _memory_row(name, goal, pairs)


def chat_sockets(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """What an open socket costs `doorward serve`, and what the process holds before the first."""
    files = [purse.header_lines(CHAT_SOCKETS) for _ in range(2)]
    empty: list[float] = []
    each: list[float] = []
    for run in range(plan.pairs):
        with subjects.chat(auth) as subject:
            empty.append(subject.memory_bytes() / 1024**2)
            with load.held(subject, files[0]):
                pass
            before = subject.memory_bytes()
            with load.held(subject, files[1]):
                each.append(_kib_each(before, subject.memory_bytes(), CHAT_SOCKETS))
        say(f"run {run + 1}: {each[-1]:.1f} KiB a socket, {empty[-1]:.0f} MiB without any")
    yield Row("memory per idle chat socket, a token each", statistics.median(each), "KiB", samples=each)
    yield Row("memory of `doorward serve` without a socket", statistics.median(empty), "MiB", samples=empty)


def calls(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """How often the auth service is asked while many present the same token at once, to a door that does not know it yet."""
    counts: list[float] = []
    for _ in range(plan.pairs):
        with subjects.door(auth) as subject:
            before = auth.calls()
            load.exactly(subject, CALLS_HANDSHAKES, ["-H", f"Authorization: Bearer {purse.token()}"])
            counts.append(auth.calls() - before)
    say(f"calls: {counts}")
    yield _calls_row(counts)


def steps(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """Where a decision's time goes, from the door's own timelines. One client at a time: no step waits for another's."""
    one = ["-H", f"Authorization: Bearer {purse.token()}"]
    unseen = ["-F", str(purse.header_lines(plan.timelines))]
    for kind, verify, headers in (
        ("cached", "remote", one),
        ("local ES256", "local", unseen),
        ("live remote", "remote", unseen),
    ):
        say(f"{kind}: {plan.timelines} handshakes")
        with subjects.door(auth, verify=verify) as subject:
            load.exactly(subject, plan.timelines, headers, concurrency=1)
            timelines = subject.timelines_of(plan.timelines)
        yield from _step_rows(kind, timelines)


def gateways(plan: Plan, auth: AuthService, purse: Purse, say: Say) -> Iterator[Row]:
    """CPU of all processes for one authenticated handshake: app behind the door, over the same app behind a proxy that asks.

    The app behind a proxy runs on uvicorn as it comes, where the door's runs on our own server, which is part of the door.
    """
    header = ["-H", f"Authorization: Bearer {purse.token()}"]
    for server, app, at_most in (("default", "uvicorn", (1.0, 0.7)), ("granian", "granian", (0.6, 0.35))):
        peers: dict[str, tuple[Callable[[], Started], float | None]] = {
            "nginx, auth_request": (partial(_gateways.nginx, auth, app), at_most[0]),
            "Envoy, ext_authz": (partial(_gateways.envoy, auth, app), at_most[1]),
            "nginx, proxy_cache": (partial(_gateways.nginx, auth, app, cached=True), None),
        }
        if app != server:
            peers["nginx, auth_request, app on our server"] = (partial(_gateways.nginx, auth, server), at_most[0])
        sides: dict[str, Callable[[], Started]] = {"door": partial(subjects.door, auth, server=server)}
        sides |= {name: start for name, (start, _) in peers.items()}
        runs: dict[str, list[load.Run]] = {name: [] for name in sides}
        for number in range(plan.pairs):
            for name, start in sides.items():
                runs[name].append(_rate(start, header, plan))
            costs = ", ".join(f"{name} {own[-1].cpu_us:.0f}" for name, own in runs.items())
            say(f"{server}, round {number + 1}, us of CPU: {costs}")
        for name, (_, goal) in peers.items():
            yield _cost_row(
                f"CPU a handshake on {_SERVER_NAMES[server]}, over {name}", goal, name, runs[name], runs["door"]
            )


ALL = {
    each.__name__: each
    for each in (cached_token, browser, local_tokens, gateways, idle_memory, chat_sockets, calls, steps)
}
_SERVER_NAMES = {"default": "uvicorn", "granian": "granian"}


def _ratios(
    name: str,
    goal: float | None,
    plan: Plan,
    start: Callable[[], Started],
    headers: Sequence[str],
    say: Say,
    *,
    on_uvicorn: Callable[[], Started] | None = None,
) -> Iterator[Row]:
    """The app behind the door over the same app without: on uvicorn as it comes, as a team has it before, and on our own server.

    The goal is shown for each of them (docs/adr/0017-what-the-cost-is-held-against.md).

    Args:
        on_uvicorn: the app behind the door as a middleware, on uvicorn as it comes too.
    """
    sides: dict[str, Callable[[], Started]] = {
        "the app on uvicorn": partial(subjects.bare, "uvicorn"),
        "the app on our server": subjects.bare,
        "door": start,
    }
    compared = [("door", "the app on uvicorn"), ("door", "the app on our server")]
    if on_uvicorn is not None:
        sides["door on uvicorn"] = on_uvicorn
        compared.append(("door on uvicorn", "the app on uvicorn"))
    runs: dict[str, list[load.Run]] = {side: [] for side in sides}
    for number in range(plan.pairs):
        for side, begin in sides.items():
            runs[side].append(_rate(begin, headers, plan))
        rates = ", ".join(f"{side} {own[-1].per_second:.0f}/s" for side, own in runs.items())
        say(f"round {number + 1}: {rates}")
    for door, base in compared:
        subject = name if door == "door" else f"{name}, {door}"
        yield _rate_row(f"{subject}, over {base}", goal, base, runs[base], runs[door])


def _rate_row(name: str, goal: float | None, beside: str, base: Sequence[load.Run], door: Sequence[load.Run]) -> Row:
    """Handshakes a second with the door over those without: the more the better."""
    ratios = [ours.per_second / theirs.per_second for theirs, ours in zip(base, door, strict=True)]
    value = statistics.median(ratios)
    met = value >= goal if goal is not None else None
    shown = f">= {goal:.2f}" if goal is not None else None
    return Row(name, value, "ratio", shown, met, ratios, _details(beside, base, door))


def _cost_row(name: str, goal: float | None, beside: str, base: Sequence[load.Run], door: Sequence[load.Run]) -> Row:
    """CPU of a handshake with the door over that with another guard: the less the better."""
    ratios = [ours.cpu_us / theirs.cpu_us for theirs, ours in zip(base, door, strict=True)]
    value = statistics.median(ratios)
    met = value <= goal if goal is not None else None
    shown = f"<= {goal:.2f}" if goal is not None else None
    return Row(name, value, "ratio", shown, met, ratios, _details(beside, base, door))


def _calls_row(counts: Sequence[float]) -> Row:
    """The worst run counts: the promise is not one of an average."""
    worst = max(counts)
    name = f"calls per {CALLS_HANDSHAKES} handshakes with one token"
    return Row(name, worst, "calls", "<= 1 a cache period", worst <= 1, counts)


def _step_rows(kind: str, timelines: Sequence[Mapping[str, float]]) -> Iterator[Row]:
    """The steps of the last decision, each over all decisions that had it. Timelines are in milliseconds."""
    for step in timelines[-1]:
        micros = statistics.median(line[step] * 1000 for line in timelines if step in line)
        yield Row(f"step {step}, {kind}", micros, "us", details={"step": step, "kind": kind})


def _details(beside: str, base: Sequence[load.Run], door: Sequence[load.Run]) -> dict[str, object]:
    return {
        "beside": beside,
        "base_per_second": round(statistics.median(run.per_second for run in base)),
        "door_per_second": round(statistics.median(run.per_second for run in door)),
        "base_cpu_us": round(statistics.median(run.cpu_us for run in base)),
        "door_cpu_us": round(statistics.median(run.cpu_us for run in door)),
        "base_p99_ms": round(statistics.median(run.p99_ms for run in base), 1),
        "door_p99_ms": round(statistics.median(run.p99_ms for run in door), 1),
        "generator_cpu": round(max(run.generator_cpu for run in (*base, *door)), 2),
        "headers_used": [run.headers_used for run in door],
    }


def _rate(start: Callable[[], Started], headers: Sequence[str], plan: Plan) -> load.Run:
    with start() as subject:
        return load.handshakes(subject, headers, seconds=plan.seconds, warm_up=plan.warm_up)


def _memory_row(name: str, goal: float | None, pairs: Sequence[tuple[float, float]]) -> Row:
    extra = [door - bare for bare, door in pairs]
    value = statistics.median(extra)
    sides = {
        "beside": "bare app",
        "base_kib": round(statistics.median(bare for bare, _ in pairs), 1),
        "door_kib": round(statistics.median(door for _, door in pairs), 1),
    }
    met = value <= goal if goal is not None else None
    return Row(name, value, "KiB", f"<= {goal:.0f}" if goal is not None else None, met, extra, dict(sides))


def _kib_per_connection(start: Callable[[], Started], earlier: Sequence[str], headers: Sequence[str]) -> float:
    """On a process that has served as many before, with the tokens of `earlier`."""
    with start() as subject:
        load.exactly(subject, IDLE_CONNECTIONS, earlier)
        before = subject.memory_bytes()
        with load.idle(subject, IDLE_CONNECTIONS, headers):
            return _kib_each(before, subject.memory_bytes(), IDLE_CONNECTIONS)


def _kib_each(before_bytes: int, after_bytes: int, count: int) -> float:
    return (after_bytes - before_bytes) / 1024 / count
