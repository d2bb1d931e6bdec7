"""The load generator, called from here."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.subjects import Subject

SPARE_SECONDS = 60
HANDSHAKE_SECONDS = 10
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455, section 1.3: any will do
    "Sec-WebSocket-Protocol: doorward.v1",
)
HOLD_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the generator. Rates and latencies leave the warm-up out, the CPU time does not."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU of the server's processes for one whole cycle: connect, handshake, echo, close."""
    generator_cpu: float
    """Near 1.0 the generator is the limit, and the run says nothing about the server."""
    headers_used: int


def handshakes(
    subject: Subject, headers: Sequence[str] = (), *, seconds: float, warm_up: float = 1.0, concurrency: int = 64
) -> Run:
    """Open as many as the server takes.

    Raises:
        CannotMeasure: not every handshake was accepted and echoed.
    """
    before = subject.cpu_seconds()
    result = _once(subject, [*headers, "-c", str(concurrency), "-d", str(seconds), "-w", str(warm_up)])
    cpu = subject.cpu_seconds() - before
    return Run(
        per_second=result["per_second"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_us=cpu / max(result["all_handshakes"], 1) * 1e6,
        generator_cpu=result["generator_cpu"],
        headers_used=result["headers_used"],
    )


def exactly(subject: Subject, count: int, headers: Sequence[str] = (), *, concurrency: int = 64) -> None:
    """So many handshakes and no more."""
    _once(subject, [*headers, "-c", str(concurrency), "-n", str(count)])


@contextlib.contextmanager
def idle(subject: Subject, count: int, headers: Sequence[str] = ()) -> Iterator[None]:
    """So many connections, open while entered."""
    command = [*_command(subject), *headers, "-c", "64", "-i", str(count), "-s", str(HOLD_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            holding = json.loads(line)["holding"] if line else 0
            if holding != count:
                raise machine.CannotMeasure(f"{subject.name}: {holding} of {count} idle connections are open")
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def held(subject: Subject, header_lines: Path) -> Iterator[None]:
    """A connection for each of these header lines, open while entered; nothing is said on it. One after the other.

    Raises:
        CannotMeasure: one was not accepted.
    """
    with contextlib.ExitStack() as stack:
        for line in header_lines.read_text().splitlines():
            stack.enter_context(_accepted(subject, line))
        yield


def _accepted(subject: Subject, header_line: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", subject.port), HANDSHAKE_SECONDS)
    lines = ("GET /ws HTTP/1.1", "Host: 127.0.0.1", header_line, *UPGRADE, "", "")
    sock.sendall("\r\n".join(lines).encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (part := sock.recv(4096)):
        answer += part
    status = answer.partition(b"\r\n")[0].decode("latin-1")
    if not status.startswith("HTTP/1.1 101"):
        sock.close()
        raise machine.CannotMeasure(f"{subject.name}: answered {status!r} instead of 101")
    return sock


def _once(subject: Subject, options: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        [*_command(subject), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=HOLD_SECONDS + SPARE_SECONDS,
    )
    if done.returncode:
        raise machine.CannotMeasure(f"wsload: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    if set(result["statuses"]) != {"101"} or any(result["failures"].values()):
        raise machine.CannotMeasure(f"{subject.name}: statuses {result['statuses']}, failures {result['failures']}")
    return result


def _command(subject: Subject) -> list[str]:
    return machine.on_generator_core([str(machine.tool("wsload")), "-p", str(subject.port)])
