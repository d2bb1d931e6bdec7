"""Where and with what it is measured: cores to pin to, tools to build, and what a reader of the numbers should know."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
SOURCES = ROOT / "benchmarks" / "tools"
PACKAGES = ("doorward", "uvicorn", "uvloop", "httptools", "websockets", "aiohttp", "joserfc", "cryptography", "msgspec")


class CannotMeasure(Exception):
    """The machine lacks something; the text says what and how to get it."""


def tool(name: str) -> Path:
    """The compiled tool of benchmarks/tools, built anew where the source is newer.

    Raises:
        CannotMeasure: there is no C compiler, or it fails.
    """
    source, binary = SOURCES / f"{name}.c", BUILD / name
    if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
        return binary
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotMeasure(
            "the load generator is written in C and needs gcc; on Debian: apt-get install gcc libc6-dev"
        )
    BUILD.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(binary), str(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if built.returncode:
        raise CannotMeasure(f"{compiler} cannot build {source.name}:\n{built.stderr}")
    return binary


def on_server_core(command: Sequence[str]) -> list[str]:
    return _pinned(command, _cores()[0])


def on_generator_core(command: Sequence[str]) -> list[str]:
    return _pinned(command, generator_core())


def generator_core() -> int:
    return _cores()[-1]


def is_pinned() -> bool:
    return len(_cores()) > 1 and shutil.which("taskset") is not None


def environment() -> dict[str, str]:
    """Ours without any setting of a Doorward: what is measured is what is shipped."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD_")}


def description() -> dict[str, object]:
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": is_pinned(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _pinned(command: Sequence[str], core: int) -> list[str]:
    return ["taskset", "-c", str(core), *command] if is_pinned() else list(command)


@functools.cache
def _cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[min(1, len(cores) - 1)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str | None:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except OSError:
        return None
    return asked.stdout.strip() or None
