"""What `doorward.client` exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import doorward.client


@pytest.mark.parametrize("name", doorward.client.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(doorward.client, name)
    assert found.__name__ == name
    assert getattr(doorward.client, name) is found
    assert name in dir(doorward.client)


def test_all_and_the_homes_are_the_same_names() -> None:
    assert sorted(doorward.client._HOMES) == sorted(doorward.client.__all__)


def test_another_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match=r"module 'doorward\.client' has no attribute 'Cleint'"):
        _ = doorward.client.Cleint


def test_importing_it_imports_neither_a_socket_library_nor_the_door() -> None:
    code = "import sys, doorward.client; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("doorward")} == {"doorward", "doorward.client"}
    assert not {"aiohttp", "websockets", "asyncio"} & loaded


def test_what_is_not_installed_is_named_with_the_mend() -> None:
    code = "import sys; sys.modules['websockets'] = None\nfrom doorward.client import Client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "needs 'websockets', which is not installed. Mend: pip install 'doorward[client]'" in done.stderr


def test_the_client_itself_needs_nothing_of_the_servers() -> None:
    code = "import sys; from doorward.client import Client, Session, FileStore; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(done.stdout.split())
    servers = ("doorward.asgi", "doorward.authd", "doorward.chat", "doorward.config")
    assert {name for name in loaded if name.startswith(servers)} == set()
    assert not {"starlette", "uvicorn", "sqlalchemy", "pydantic", "ag_ui", "rich"} & loaded
