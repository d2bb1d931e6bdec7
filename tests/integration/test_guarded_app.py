"""The fixture for users' own tests: what it does beyond what its example shows."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.door_server import whoami

from doorward import Doorward, Settings
from doorward.asgi.types import Receive, Scope, Send
from doorward.config import child_environment
from doorward.testing import Fault
from doorward.testing.guarded_app import GuardedApp


async def test_it_works_in_a_test_with_a_loop_of_its_own() -> None:
    with GuardedApp(whoami) as guarded:
        async with guarded.connect_async(guarded.token("ada", permissions=("chat", "admin"))) as client:
            await client.send("hello")
            assert '"admin"' in str(await client.recv())


def test_a_client_that_is_let_in_is_not_refused() -> None:
    with GuardedApp(whoami) as guarded, pytest.raises(AssertionError, match="let in"):
        guarded.refusal(guarded.token("ada"))


def test_settings_are_those_of_the_door() -> None:
    with GuardedApp(whoami, {"routes": [{"path": "/*", "required_scopes": ["admin"]}]}) as guarded:
        assert guarded.refusal(guarded.token("ada")).code == "FORBIDDEN"
        with guarded.connect(guarded.token("ada", permissions=("admin",))):
            pass


def test_an_app_with_a_door_keeps_its_settings(tmp_path: Path) -> None:
    settings = Settings(
        auth={"url": "https://auth.example.com", "service_secret": "s"},
        routes=[{"path": "/*", "required_scopes": ["admin"]}],
        data_dir=tmp_path / "theirs",
    )
    with GuardedApp(Doorward(whoami, settings)) as guarded:
        assert guarded.refusal(guarded.token("ada")).code == "FORBIDDEN"
        assert guarded.door.settings.data_dir != settings.data_dir
    assert not settings.data_dir.exists()


def test_what_is_rejected_stays_out_in_an_outage() -> None:
    with GuardedApp(whoami) as guarded:
        guarded.reject(token := guarded.token("ada"))
        assert guarded.refusal(token).code == "TOKEN_REJECTED"
        with guarded.broken(Fault.REFUSE):
            assert guarded.refusal(token).code == "TOKEN_REJECTED"


def test_an_app_that_does_not_start_says_so_and_leaves_nothing_behind() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    before = threading.active_count()
    with pytest.raises(AssertionError, match="did not start"), GuardedApp(broken):
        pass
    assert threading.active_count() == before


def test_its_thread_ends_with_it() -> None:
    with GuardedApp(whoami) as guarded, guarded.connect():
        pass
    assert "guarded-app" not in {thread.name for thread in threading.enumerate()}


def test_an_app_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["doorward.testing.pytest_plugin"]')
    (tmp_path / "test_it.py").write_text("def test_it(door):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "--rootdir", str(tmp_path)]
    env = child_environment({}) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert "override the fixture door_app" in ran.stdout
